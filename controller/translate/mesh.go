package translate

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
	meshapi "istio.io/api/mesh/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"
)

// Mesh is what the controller heeds of MeshConfig.
type Mesh struct {
	RootNamespace      string
	TrustDomain        string
	TrustDomainAliases []string
	// discover selects the namespaces that exist for the mesh, each entry on its own; nil for all.
	discover []labels.Selector
	// visibility of ServiceEntries, by their namespace.
	visibility visibility
	// ignored names the fields that are set and change nothing here, in order.
	ignored []string
	// notes say of heeded fields what they do not do.
	notes []string
}

// ReadMesh reads MeshConfig as the ConfigMap holds it, in YAML. Fields it does not heed are not looked into; an error in one
// that it does refuses the whole.
func ReadMesh(text string) (Mesh, error) {
	var m Mesh
	data, err := yaml.YAMLToJSONStrict([]byte(text))
	if err != nil {
		return m, fmt.Errorf("MeshConfig: %w", err)
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		return m, errors.New("MeshConfig: not a map of fields")
	}
	heeded := map[string]json.RawMessage{}
	known := (&meshapi.MeshConfig{}).ProtoReflect().Descriptor().Fields()
	for name, value := range fields {
		if f := known.ByName(protoreflect.Name(name)); f != nil && f.JSONName() != name { // root_namespace is rootNamespace
			if name = f.JSONName(); fields[name] != nil {
				return m, fmt.Errorf("MeshConfig: %s is given twice", name)
			}
		}
		switch name {
		case "rootNamespace", "trustDomain", "trustDomainAliases", "discoverySelectors", "outboundTrafficPolicy", "serviceSettings":
			heeded[name] = value
		case "serviceEntryVisibility": // not yet in the released API
			if m.visibility, err = readVisibility(value); err != nil {
				return Mesh{}, fmt.Errorf("MeshConfig: serviceEntryVisibility: %w", err)
			}
		default:
			m.ignored = append(m.ignored, clip(name))
		}
	}
	slices.Sort(m.ignored)
	if data, err = json.Marshal(heeded); err != nil {
		return Mesh{}, fmt.Errorf("MeshConfig: %w", err)
	}
	var api meshapi.MeshConfig
	if err := protojson.Unmarshal(data, &api); err != nil {
		return Mesh{}, fmt.Errorf("MeshConfig: %w", err)
	}
	if err := m.take(&api); err != nil {
		return Mesh{}, fmt.Errorf("MeshConfig: %w", err)
	}
	return m, nil
}

func (m *Mesh) take(api *meshapi.MeshConfig) error {
	m.RootNamespace, m.TrustDomain, m.TrustDomainAliases = api.RootNamespace, api.TrustDomain, api.TrustDomainAliases
	if m.RootNamespace != "" {
		if msgs := validation.IsDNS1123Label(m.RootNamespace); len(msgs) > 0 {
			return fmt.Errorf("rootNamespace: %s", msgs[0])
		}
	}
	for i, td := range append([]string{m.TrustDomain}, m.TrustDomainAliases...) {
		if td == "" && i == 0 {
			continue
		}
		if err := checkTrustDomain(td); err != nil {
			return err
		}
	}
	for i, s := range api.DiscoverySelectors {
		selector, err := selectorOfMesh(s)
		if err != nil {
			return fmt.Errorf("discoverySelectors[%d]: %w", i, err)
		}
		m.discover = append(m.discover, selector)
	}
	if p := api.OutboundTrafficPolicy; p != nil && p.Mode != meshapi.MeshConfig_OutboundTrafficPolicy_ALLOW_ANY {
		m.notes = append(m.notes, "outboundTrafficPolicy "+p.Mode.String()+": node proxies, Istio's too, let connections to unknown addresses pass")
	}
	for _, s := range api.ServiceSettings {
		if s.GetSettings().GetClusterLocal() {
			m.notes = append(m.notes, "serviceSettings clusterLocal: services of this cluster only are published, so every one is local already")
			break
		}
	}
	return nil
}

// checkTrustDomain holds names to what SPIFFE allows.
func checkTrustDomain(td string) error {
	ok := td != "" && len(td) <= 255
	for _, c := range td {
		ok = ok && (c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || strings.ContainsRune(".-_", c))
	}
	if !ok {
		return fmt.Errorf("%q is not a trust domain", clip(td))
	}
	return nil
}

func selectorOfMesh(s *meshapi.LabelSelector) (labels.Selector, error) {
	out := &metav1.LabelSelector{MatchLabels: s.GetMatchLabels()}
	for _, e := range s.GetMatchExpressions() {
		out.MatchExpressions = append(out.MatchExpressions, metav1.LabelSelectorRequirement{
			Key: e.GetKey(), Operator: metav1.LabelSelectorOperator(e.GetOperator()), Values: e.GetValues(),
		})
	}
	return metav1.LabelSelectorAsSelector(out)
}

// discovers reports whether a namespace with these labels exists for the mesh.
func (m *Mesh) discovers(space map[string]string) bool {
	return len(m.discover) == 0 || slices.ContainsFunc(m.discover, func(s labels.Selector) bool { return s.Matches(labels.Set(space)) })
}
