package translate

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/ambit-mesh/ambit/controller/api/workload"
	"github.com/ambit-mesh/ambit/controller/objects"
)

const annotDistribution = "networking.istio.io/traffic-distribution"

// hostname is a Service's fully qualified name.
func hostname(set Settings, s *corev1.Service) string {
	return s.Name + "." + s.Namespace + ".svc." + set.ClusterDomain
}

func (t *Translator) serviceKey(s *corev1.Service) string {
	return s.Namespace + "/" + hostname(t.set, s)
}

// service makes the service resource of a Kubernetes Service. One that is only another name for an external host has none.
func (t *Translator) service(key objects.Key) unit {
	s := get[*corev1.Service](&t.in, key.Kind, key.Namespace, key.Name)
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		return unit{}
	}
	out := &workload.Service{
		Name:          s.Name,
		Namespace:     s.Namespace,
		Hostname:      hostname(t.set, s),
		Addresses:     t.clusterIPs(s),
		LoadBalancing: t.loadBalancing(s),
		IpFamilies:    ipFamilies(s.Spec.IPFamilies),
		Canonical:     true,
	}
	for _, p := range s.Spec.Ports {
		port := &workload.Port{ServicePort: uint32(max(p.Port, 0)), AppProtocol: serviceProtocol(p)}
		if p.TargetPort.Type == intstr.Int {
			port.TargetPort = firstNonZero(uint32(max(p.TargetPort.IntVal, 0)), port.ServicePort)
		}
		out.Ports = append(out.Ports, port)
	}
	b := t.serviceBinding(key, s)
	out.Waypoint, out.WeightedWaypoints, out.IngressUseWaypoint = b.waypoint, b.weighted, t.ingress(b, s)
	return unit{addresses: []*workload.Address{serviceAddress(out)}, conditions: t.withGuard(key, b.conditions)}
}

func serviceAddress(s *workload.Service) *workload.Address {
	return &workload.Address{Type: &workload.Address_Service{Service: s}}
}

// clusterIPs are the virtual addresses. A headless service has none.
func (t *Translator) clusterIPs(s *corev1.Service) []*workload.NetworkAddress {
	ips := s.Spec.ClusterIPs
	if len(ips) == 0 {
		ips = []string{s.Spec.ClusterIP}
	}
	var out []*workload.NetworkAddress
	for _, ip := range ips {
		for _, a := range appendAddress(nil, ip) {
			out = append(out, &workload.NetworkAddress{Network: t.set.Network, Address: a})
		}
	}
	return out
}

// headless reports a service without virtual addresses.
func headless(s *corev1.Service) bool {
	return s.Spec.ClusterIP == corev1.ClusterIPNone || len(s.Spec.ClusterIPs) > 0 && s.Spec.ClusterIPs[0] == corev1.ClusterIPNone
}

func (t *Translator) loadBalancing(s *corev1.Service) *workload.LoadBalancing {
	lb := distribution(firstOf(deref(s.Spec.TrafficDistribution), s.Annotations[annotDistribution], t.spaceAnnotations(s.Namespace)[annotDistribution]))
	if s.Spec.InternalTrafficPolicy != nil && *s.Spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal {
		lb = &workload.LoadBalancing{
			Mode:              workload.LoadBalancing_STRICT,
			RoutingPreference: []workload.LoadBalancing_Scope{workload.LoadBalancing_NODE},
		}
	}
	if s.Spec.PublishNotReadyAddresses {
		if lb == nil {
			lb = &workload.LoadBalancing{}
		}
		lb.HealthPolicy = workload.LoadBalancing_ALLOW_ALL
	}
	return lb
}

// distribution is the preference a traffic distribution stands for; nil for none, or one that is not known.
func distribution(name string) *workload.LoadBalancing {
	scopes := []workload.LoadBalancing_Scope{workload.LoadBalancing_NETWORK, workload.LoadBalancing_REGION, workload.LoadBalancing_ZONE}
	switch name {
	case "PreferClose", "PreferSameZone":
	case "PreferSameNode":
		scopes = append(scopes, workload.LoadBalancing_SUBZONE, workload.LoadBalancing_NODE)
	default:
		return nil
	}
	return &workload.LoadBalancing{Mode: workload.LoadBalancing_FAILOVER, RoutingPreference: scopes}
}

func ipFamilies(in []corev1.IPFamily) workload.IPFamilies {
	var v4, v6 bool
	for _, f := range in {
		v4 = v4 || f == corev1.IPv4Protocol
		v6 = v6 || f == corev1.IPv6Protocol
	}
	switch {
	case v4 && v6:
		return workload.IPFamilies_DUAL
	case v4:
		return workload.IPFamilies_IPV4_ONLY
	case v6:
		return workload.IPFamilies_IPV6_ONLY
	default:
		return workload.IPFamilies_AUTOMATIC
	}
}

// serviceProtocol is what a port is said to speak: its appProtocol, or its name up to the first dash.
func serviceProtocol(p corev1.ServicePort) workload.AppProtocol {
	if p.Protocol != "" && p.Protocol != corev1.ProtocolTCP {
		return workload.AppProtocol_UNKNOWN
	}
	name := p.Name
	if p.AppProtocol != nil {
		switch strings.ToLower(*p.AppProtocol) {
		case "kubernetes.io/h2c":
			return workload.AppProtocol_HTTP2
		case "kubernetes.io/ws":
			return workload.AppProtocol_HTTP11
		case "kubernetes.io/wss":
			return workload.AppProtocol_TLS
		}
		name = *p.AppProtocol
	}
	return namedProtocol(name, p.Port)
}

// namedProtocol reads a port's name. A name that says nothing, on a port whose protocol lets the server speak first, is TCP:
// a proxy must not wait there for the client's first bytes.
func namedProtocol(name string, port int32) workload.AppProtocol {
	prefix, _, _ := strings.Cut(strings.ToLower(name), "-")
	if strings.HasPrefix(strings.ToLower(name), "grpc-web") {
		return workload.AppProtocol_UNKNOWN
	}
	switch prefix {
	case "http":
		return workload.AppProtocol_HTTP11
	case "http2":
		return workload.AppProtocol_HTTP2
	case "grpc":
		return workload.AppProtocol_GRPC
	case "https", "tls":
		return workload.AppProtocol_TLS
	case "tcp":
		return workload.AppProtocol_TCP
	case "mongo", "mysql", "redis", "udp":
		return workload.AppProtocol_UNKNOWN
	}
	switch port {
	case 25, 53, 3306, 27017:
		return workload.AppProtocol_TCP
	default:
		return workload.AppProtocol_UNKNOWN
	}
}

func (t *Translator) spaceLabels(name string) map[string]string {
	if ns := get[*corev1.Namespace](&t.in, objects.Namespace, "", name); ns != nil {
		return ns.Labels
	}
	return nil
}

func (t *Translator) spaceAnnotations(name string) map[string]string {
	if ns := get[*corev1.Namespace](&t.in, objects.Namespace, "", name); ns != nil {
		return ns.Annotations
	}
	return nil
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
