package translate

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/ambit-mesh/ambit/controller/objects"
)

// Settings are the mesh-wide names, as the process was started with. An empty field was not given: then MeshConfig decides, and
// without it the default. What was given wins over MeshConfig.
type Settings struct {
	ClusterID string // of Kubernetes' cluster: "Kubernetes" by default
	// Network of all addresses: by default that of the root namespace's label topology.istio.io/network, or "".
	Network string
	// TrustDomain is "cluster.local" by default. MeshConfig cannot change it while the process runs, as identities depend on it;
	// the process asks it once, before it starts.
	TrustDomain        string
	TrustDomainAliases []string
	RootNamespace      string // whose policies hold for the mesh: "istio-system" by default
	ClusterDomain      string // "cluster.local" by default
	// PublishDryRun sends policies annotated istio.io/dry-run to the nodes. Proxies older than the field would enforce them.
	PublishDryRun bool
}

// Defaults fills what is empty.
func (s Settings) Defaults() Settings {
	for _, d := range []struct {
		field *string
		value string
	}{
		{&s.ClusterID, "Kubernetes"}, {&s.TrustDomain, "cluster.local"}, {&s.RootNamespace, "istio-system"}, {&s.ClusterDomain, "cluster.local"},
	} {
		if *d.field == "" {
			*d.field = d.value
		}
	}
	return s
}

// Settings are those in force.
func (t *Translator) Settings() Settings { return t.set }

func (s Settings) equal(o Settings) bool {
	return s.ClusterID == o.ClusterID && s.Network == o.Network && s.TrustDomain == o.TrustDomain && s.RootNamespace == o.RootNamespace &&
		s.ClusterDomain == o.ClusterDomain && s.PublishDryRun == o.PublishDryRun && slices.Equal(s.TrustDomainAliases, o.TrustDomainAliases)
}

const (
	labelNetwork  = "topology.istio.io/network"
	conditionMesh = "ambit.io/MeshConfigAccepted"
)

// meshKey is where MeshConfig is: the root namespace that the process was started with, whatever MeshConfig says itself.
func (t *Translator) meshKey() objects.Key {
	return objects.Key{Kind: objects.ConfigMap, Namespace: t.given.Defaults().RootNamespace, Name: objects.MeshConfigName}
}

// readMesh takes a new MeshConfig. One with errors leaves the last good one in force.
func (t *Translator) readMesh(o objects.Object) {
	cm, _ := o.(*corev1.ConfigMap)
	t.meshErr = nil
	if cm == nil {
		t.mesh = Mesh{}
		t.meshRead = true // there being none is an answer
		return
	}
	m, err := ReadMesh(cm.Data[objects.MeshConfigKey])
	if err != nil {
		t.meshErr = err
		return
	}
	t.meshRead = true
	if namesNetworks(cm.Data["meshNetworks"]) {
		m.ignored = append(m.ignored, "meshNetworks")
	}
	t.mesh = m
}

// namesNetworks reports whether the ConfigMap's other key says anything: istiod's chart always writes an empty list.
func namesNetworks(text string) bool {
	var in struct{ Networks map[string]any }
	return yaml.Unmarshal([]byte(text), &in) != nil || len(in.Networks) > 0
}

// Held says why nothing that was made may be published yet; nil if it may. A MeshConfig that was never valid says neither whose
// policies hold for the mesh nor who may see what: by the defaults more would be allowed than by what its author means.
func (t *Translator) Held() error {
	if t.meshErr == nil || t.meshRead {
		return nil
	}
	return fmt.Errorf("nothing is published before it is valid: %w", t.meshErr)
}

// effective is what holds now: given, then MeshConfig's, then defaults.
func (t *Translator) effective() Settings {
	s := t.given
	if s.RootNamespace == "" {
		s.RootNamespace = t.mesh.RootNamespace
	}
	if len(s.TrustDomainAliases) == 0 {
		s.TrustDomainAliases = t.mesh.TrustDomainAliases
	}
	s = s.Defaults()
	if s.Network == "" {
		s.Network = t.spaceLabels(s.RootNamespace)[labelNetwork]
	}
	return s
}

// meshConfig is the unit of the ConfigMap: only what its owner is told.
func (t *Translator) meshConfig(key objects.Key) unit {
	if key != t.meshKey() {
		return unit{}
	}
	c := objects.Condition{Type: conditionMesh, Status: true, Reason: reasonAccepted}
	notes := slices.Clone(t.mesh.notes)
	if len(t.mesh.ignored)+len(notes) > 0 {
		c.Reason = "FieldsIgnored"
	}
	if len(t.mesh.ignored) > 0 {
		notes = append(notes, "without effect here: "+strings.Join(t.mesh.ignored, ", "))
	}
	if r := t.mesh.RootNamespace; r != "" && r != t.set.RootNamespace {
		c.Reason = "Overridden"
		notes = append(notes, fmt.Sprintf("rootNamespace %s: the command line says %s", r, t.set.RootNamespace))
	}
	if a := t.mesh.TrustDomainAliases; len(a) > 0 && !slices.Equal(a, t.set.TrustDomainAliases) {
		c.Reason = "Overridden"
		notes = append(notes, "trustDomainAliases: the command line says others")
	}
	if td := t.mesh.TrustDomain; td != "" && td != t.set.TrustDomain {
		c.Status, c.Reason = false, "TrustDomainFixed"
		notes = append(notes, fmt.Sprintf("trustDomain %s: this process runs with %s and must be restarted, without another --trust-domain, to change it", td, t.set.TrustDomain))
	}
	c.Message = strings.Join(notes, "; ")
	if t.meshErr != nil {
		c = objects.Condition{Type: conditionMesh, Reason: "Invalid", Message: "the last good configuration stays in force: " + t.meshErr.Error()}
		if held := t.Held(); held != nil {
			c.Message = held.Error()
		}
	}
	return unit{conditions: []objects.Condition{c}}
}
