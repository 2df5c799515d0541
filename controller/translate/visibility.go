package translate

import (
	"bytes"
	"encoding/json"
	"fmt"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/ambit-mesh/ambit/controller/objects"
)

// scope is who sees a ServiceEntry.
type scope int

const (
	public scope = iota
	ownNamespace
	nobody
)

// visibility is MeshConfig.serviceEntryVisibility: the first policy whose rules all hold for the namespace decides.
type visibility struct {
	configured bool
	otherwise  scope
	policies   []visibilityPolicy
}

type visibilityPolicy struct {
	scope scope
	rules []labels.Selector
}

func readVisibility(data []byte) (visibility, error) {
	var in struct {
		DefaultVisibility string
		ApplyToSidecars   bool // there are none
		Policies          []struct {
			Visibility    string
			MatchingRules []struct {
				NamespaceSelector *metav1.LabelSelector
			}
		}
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&in); err != nil {
		return visibility{}, err
	}
	var err error
	v := visibility{configured: true}
	if v.otherwise, err = readScope(in.DefaultVisibility); err != nil {
		return visibility{}, fmt.Errorf("defaultVisibility: %w", err)
	}
	for i, p := range in.Policies {
		var out visibilityPolicy
		if out.scope, err = readScope(p.Visibility); err != nil {
			return visibility{}, fmt.Errorf("policies[%d].visibility: %w", i, err)
		}
		for j, r := range p.MatchingRules {
			if r.NamespaceSelector == nil {
				return visibility{}, fmt.Errorf("policies[%d].matchingRules[%d]: a namespaceSelector is required", i, j)
			}
			s, err := metav1.LabelSelectorAsSelector(r.NamespaceSelector)
			if err != nil {
				return visibility{}, fmt.Errorf("policies[%d].matchingRules[%d]: %w", i, j, err)
			}
			out.rules = append(out.rules, s)
		}
		v.policies = append(v.policies, out)
	}
	return v, nil
}

func readScope(s string) (scope, error) {
	switch s {
	case "", "PUBLIC":
		return public, nil
	case "NAMESPACE":
		return ownNamespace, nil
	case "NONE":
		return nobody, nil
	default:
		return public, fmt.Errorf("%q is not PUBLIC, NAMESPACE or NONE", clip(s))
	}
}

func (v *visibility) of(space map[string]string) scope {
next:
	for _, p := range v.policies {
		for _, r := range p.rules {
			if !r.Matches(labels.Set(space)) {
				continue next
			}
		}
		return p.scope
	}
	return v.otherwise
}

// scopeOf is who sees what a claimant of host names publishes.
func (t *Translator) scopeOf(key objects.Key) scope {
	if key.Kind != objects.ServiceEntry || !t.mesh.visibility.configured {
		return public
	}
	return t.mesh.visibility.of(t.spaceLabels(key.Namespace))
}

// visibilityConditions tell which visibility the mesh gave, once it gives any. exportTo gives none to node proxies or
// waypoints, in Istio neither.
func (t *Translator) visibilityConditions(key objects.Key, se *networkingv1.ServiceEntry) []objects.Condition {
	var out []objects.Condition
	if t.mesh.visibility.configured {
		c := objects.Condition{Type: "istio.io/VisibilityApplied", Status: true, Reason: "Public", Message: "visible to the whole mesh"}
		switch t.scopeOf(key) {
		case ownNamespace:
			c.Reason, c.Message = "Namespace", "visible in its own namespace only, by the mesh's serviceEntryVisibility"
		case nobody:
			c.Reason, c.Message = "None", "visible to nobody, by the mesh's serviceEntryVisibility"
		}
		out = append(out, c)
	}
	if to := se.Spec.ExportTo; len(to) > 0 && !(len(to) == 1 && to[0] == "*") {
		out = append(out, objects.Condition{
			Type: "ambit.io/ExportToHeeded", Reason: "Ambient",
			Message: "exportTo has no effect in ambient mode: the entry is visible as if it were \"*\"; use serviceEntryVisibility of MeshConfig",
		})
	}
	return out
}
