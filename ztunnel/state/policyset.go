package state

import (
	"slices"
	"strings"
)

// PolicySet is what applies to one workload. It is comparable: equal sets judge alike. A nil layer is empty.
type PolicySet struct {
	Global    *PolicyLayer // of the mesh
	Namespace *PolicyLayer // of the workload's namespace
	Selected  *PolicyLayer // named by the workload
}

// Layers lists the layers in the order in which they are evaluated.
func (s PolicySet) Layers() [3]*PolicyLayer {
	return [3]*PolicyLayer{s.Global, s.Namespace, s.Selected}
}

// PolicyLayer is the policies of one scope, sorted by key. Immutable; shared by all workloads to which it applies.
type PolicyLayer struct {
	Policies []*Policy
	Missing  []Key // named by the workload and not known
	// Derived holds what policy evaluation compiles from them.
	Derived Derived
}

// resolve makes the layer of a list of references.
func resolve(refs []Key, get func(Key) (*Policy, bool)) *PolicyLayer {
	layer := &PolicyLayer{}
	for _, k := range refs {
		if p, ok := get(k); ok {
			layer.Policies = append(layer.Policies, p)
		} else {
			layer.Missing = append(layer.Missing, k)
		}
	}
	return layer
}

// refsKey is a list of references as a map key. No name contains a line feed: the decoder sees to that.
func refsKey(refs []Key) string {
	var b strings.Builder
	for _, k := range refs {
		b.WriteString(k.Namespace)
		b.WriteByte('/')
		b.WriteString(k.Name)
		b.WriteByte('\n')
	}
	return b.String()
}

// layerOf makes the layer of a scope from its policies, or nil if there are none.
func layerOf(policies map[Key]*Policy) *PolicyLayer {
	if len(policies) == 0 {
		return nil
	}
	layer := &PolicyLayer{Policies: make([]*Policy, 0, len(policies))}
	for _, p := range policies {
		layer.Policies = append(layer.Policies, p)
	}
	slices.SortFunc(layer.Policies, func(a, b *Policy) int { return a.Key.Compare(b.Key) })
	return layer
}
