package policy

import "github.com/ambit-mesh/ambit/ztunnel/state"

// group is one of the four ways in which a policy takes part.
type group uint8

const (
	enforcedDeny group = iota
	enforcedAllow
	dryRunDeny
	dryRunAllow
	groups
)

func groupOf(p *state.Policy) group {
	g := enforcedDeny
	if p.Action == state.Allow {
		g = enforcedAllow
	}
	if p.DryRun {
		g += dryRunDeny
	}
	return g
}

// compiled is a layer made ready: an index for each group. It is computed once for each layer and shared.
type compiled struct {
	layer   *state.PolicyLayer
	index   [groups]*index
	present [groups]bool  // whether there are policies of the group at all, with rules or without
	broken  *state.Policy // the first that could not be parsed
	closes  *state.Policy // the ALLOW policy that makes denial the default: the first without rules, else the first
}

// compileKey is where a layer remembers its compiled form.
type compileKey struct{}

func compile(layer *state.PolicyLayer) *compiled {
	return layer.Derived.Get(compileKey{}, func() any { return compileLayer(layer) }).(*compiled)
}

func compileLayer(layer *state.PolicyLayer) *compiled {
	c := &compiled{layer: layer}
	for i, p := range layer.Policies {
		if p.Broken != "" {
			if c.broken == nil && !p.DryRun {
				c.broken = p
			}
			continue
		}
		g := groupOf(p)
		c.present[g] = true
		if g == enforcedAllow && (c.closes == nil || len(c.closes.Rules) > 0 && len(p.Rules) == 0) {
			c.closes = p
		}
		if c.index[g] == nil {
			c.index[g] = newIndex()
		}
		for j := range p.Rules {
			c.index[g].add(ref{int32(i), int32(j)}, &p.Rules[j])
		}
	}
	return c
}

// first is the first policy of a group, in the order of the layer, that matches; nil if none does.
func (c *compiled) first(g group, f *facts) *state.Policy {
	x := c.index[g]
	if x == nil {
		return nil
	}
	best := int32(len(c.layer.Policies))
	x.candidates(f, func(refs []ref) {
		for _, r := range refs {
			if r.policy >= best {
				return // refs are in the order of the layer
			}
			if ruleMatches(&c.layer.Policies[r.policy].Rules[r.rule], f) {
				best = r.policy
				return
			}
		}
	})
	if int(best) == len(c.layer.Policies) {
		return nil
	}
	return c.layer.Policies[best]
}
