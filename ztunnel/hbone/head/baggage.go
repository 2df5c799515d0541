package head

import "strings"

// Baggage describes a workload in the mesh's own dialect of W3C baggage: a fixed order, no spaces, no escaping, empty
// members left out. A value that holds a comma or a byte outside printable ASCII is left out too, for there is no
// way to write it that Istio reads.
type Baggage struct {
	Cluster   string // k8s.cluster.name
	Namespace string // k8s.namespace.name
	Type      string // deployment, cronjob, job or pod: part of the key that carries Workload
	Workload  string // k8s.<type>.name
	Service   string // service.name: the canonical service
	Version   string // service.version: the canonical revision
	Region    string // cloud.region
	Zone      string // cloud.availability_zone
}

// String formats the header's value; it is empty when nothing is known.
func (b *Baggage) String() string {
	if *b == (Baggage{}) {
		return ""
	}
	out := make([]byte, 0, 256)
	add := func(key, value string) {
		if value == "" || !plain(value) {
			return
		}
		if len(out) > 0 {
			out = append(out, ',')
		}
		out = append(out, key...)
		out = append(out, '=')
		out = append(out, value...)
	}
	add("k8s.cluster.name", b.Cluster)
	add("k8s.namespace.name", b.Namespace)
	switch b.Type {
	case "deployment":
		add("k8s.deployment.name", b.Workload)
	case "cronjob":
		add("k8s.cronjob.name", b.Workload)
	case "job":
		add("k8s.job.name", b.Workload)
	default:
		add("k8s.pod.name", b.Workload)
	}
	add("service.name", b.Service)
	add("service.version", b.Version)
	add("cloud.region", b.Region)
	add("cloud.availability_zone", b.Zone)
	return string(out)
}

// ParseBaggage reads a header's value. Keys are case-sensitive, unknown ones are ignored, the last of two wins, and
// an empty value is the same as none. It cannot fail: baggage decides nothing.
func ParseBaggage(value string) Baggage {
	var b Baggage
	b.merge(value)
	return b
}

// merge adds the members of one header line to those of earlier lines.
func (b *Baggage) merge(value string) {
	for member := range strings.SplitSeq(value, ",") {
		key, v, ok := strings.Cut(member, "=")
		if !ok {
			continue
		}
		switch key {
		case "k8s.cluster.name":
			b.Cluster = v
		case "k8s.namespace.name":
			b.Namespace = v
		case "k8s.deployment.name", "k8s.cronjob.name", "k8s.job.name", "k8s.pod.name":
			b.Type, b.Workload = strings.TrimSuffix(strings.TrimPrefix(key, "k8s."), ".name"), v
			if v == "" {
				b.Type = ""
			}
		case "service.name":
			b.Service = v
		case "service.version":
			b.Version = v
		case "cloud.region":
			b.Region = v
		case "cloud.availability_zone":
			b.Zone = v
		}
	}
}

// plain says whether v can stand in baggage as it is.
func plain(v string) bool {
	for i := range len(v) {
		if c := v[i]; c < 0x21 || c > 0x7e || c == ',' {
			return false
		}
	}
	return true
}
