package xds

import (
	"fmt"
	"net/netip"

	"google.golang.org/protobuf/proto"

	"github.com/ambit-mesh/ambit/controller/api/authz"
	"github.com/ambit-mesh/ambit/ztunnel/state"
)

func toScope(s authz.Scope) (state.PolicyScope, error) {
	switch s {
	case authz.Scope_GLOBAL:
		return state.ScopeGlobal, nil
	case authz.Scope_NAMESPACE:
		return state.ScopeNamespace, nil
	case authz.Scope_WORKLOAD_SELECTOR:
		return state.ScopeSelector, nil
	default:
		return 0, fmt.Errorf("unknown scope %d", s)
	}
}

func toPolicy(key state.Key, m *authz.Authorization) (*state.Policy, error) {
	if m.GetNamespace() != key.Namespace || m.GetName() != key.Name {
		return nil, fmt.Errorf("resource is named otherwise than %s", quote(m.GetNamespace()+"/"+m.GetName()))
	}
	if err := text("name", key.String()); err != nil {
		return nil, err
	}
	scope, err := toScope(m.GetScope())
	if err != nil {
		return nil, err
	}
	p := &state.Policy{Key: key, Scope: scope, DryRun: m.GetDryRun()}
	switch m.GetAction() {
	case authz.Action_ALLOW:
		p.Action = state.Allow
	case authz.Action_DENY:
		p.Action = state.Deny
	default:
		return nil, fmt.Errorf("unknown action %d", m.GetAction())
	}
	if p.Action == state.Allow && (unknown(m) || len(m.GetExtensions()) > 0) {
		return p, nil // an ALLOW with something unknown on the whole of it allows nothing
	}
	for i, g := range m.GetGroups() {
		r, ok, err := toRule(p.Action, g)
		if err != nil {
			return nil, fmt.Errorf("rule %d: %w", i, err)
		}
		if ok {
			p.Rules = append(p.Rules, r)
		}
	}
	return p, nil
}

// unknown reports fields of a message that this version does not know: somebody meant something by them.
func unknown(m proto.Message) bool { return len(m.ProtoReflect().GetUnknown()) > 0 }

// toRule reads a rule; false leaves it out, for an ALLOW that has something unknown on it.
func toRule(action state.Action, m *authz.Group) (state.Rule, bool, error) {
	var r state.Rule
	if action == state.Allow && unknown(m) {
		return r, false, nil
	}
	for _, c := range m.GetRules() {
		if action == state.Allow && unknown(c) {
			return r, false, nil
		}
		clause, always, err := toClause(action, c)
		if err != nil {
			return r, false, err
		}
		if !always {
			r.Clauses = append(r.Clauses, clause)
		}
	}
	return r, true, nil
}

// toClause reads a clause; always says that it is to be left out because it always matches: in a DENY, a match without
// any field is what remains of one whose attributes cannot be judged here (design section 7: the rule gets wider).
func toClause(action state.Action, m *authz.Rules) (c state.Clause, always bool, err error) {
	for _, one := range m.GetMatches() {
		match, err := toMatch(action, one)
		if err != nil {
			return c, false, err
		}
		if action == state.Deny && isEmpty(match) {
			always = true
		}
		c.Matches = append(c.Matches, match)
	}
	return c, always, nil
}

func toMatch(action state.Action, m *authz.Match) (state.Match, error) {
	out := state.Match{Never: action == state.Allow && (unknown(m) || len(m.GetExtensions()) > 0)}
	s := reader{action: action, match: &out}
	s.strings(&out.Namespaces, m.GetNamespaces(), false)
	s.strings(&out.NotNamespaces, m.GetNotNamespaces(), true)
	s.strings(&out.Principals, m.GetPrincipals(), false)
	s.strings(&out.NotPrincipals, m.GetNotPrincipals(), true)
	s.accounts(&out.ServiceAccounts, m.GetServiceAccounts())
	s.accounts(&out.NotServiceAccounts, m.GetNotServiceAccounts())
	s.prefixes(&out.SourceIPs, m.GetSourceIps())
	s.prefixes(&out.NotSourceIPs, m.GetNotSourceIps())
	s.prefixes(&out.DestinationIPs, m.GetDestinationIps())
	s.prefixes(&out.NotDestinationIPs, m.GetNotDestinationIps())
	s.ports(&out.DestinationPorts, m.GetDestinationPorts())
	s.ports(&out.NotDestinationPorts, m.GetNotDestinationPorts())
	return out, s.err
}

// reader reads the fields of a match and remembers the first error.
type reader struct {
	action state.Action
	match  *state.Match
	err    error
}

func (s *reader) fail(err error) {
	if s.err == nil {
		s.err = err
	}
}

// strings reads patterns. One of an unknown kind makes an ALLOW's match unsatisfiable; in a DENY it must not narrow: a
// list of positives that has one is dropped as a whole, a negative one by itself.
func (s *reader) strings(out *[]state.StringMatch, list []*authz.StringMatch, negative bool) {
	dropped := false
	for _, m := range list {
		p, known := toPattern(m)
		if known {
			if err := text("pattern", p.Value); err != nil {
				s.fail(err)
			}
			*out = append(*out, p)
			continue
		}
		if s.action == state.Allow {
			s.match.Never = true
		}
		dropped = true
	}
	if dropped && !negative {
		*out = nil
	}
}

func toPattern(m *authz.StringMatch) (state.StringMatch, bool) {
	switch t := m.GetMatchType().(type) {
	case *authz.StringMatch_Exact:
		return state.StringMatch{Op: state.OpExact, Value: t.Exact}, true
	case *authz.StringMatch_Prefix:
		return state.StringMatch{Op: state.OpPrefix, Value: t.Prefix}, true
	case *authz.StringMatch_Suffix:
		return state.StringMatch{Op: state.OpSuffix, Value: t.Suffix}, true
	case *authz.StringMatch_Presence:
		return state.StringMatch{Op: state.OpPresence}, true
	default:
		return state.StringMatch{}, false
	}
}

func (s *reader) accounts(out *[]state.AccountMatch, list []*authz.ServiceAccountMatch) {
	for _, m := range list {
		a := state.AccountMatch{Namespace: m.GetNamespace(), ServiceAccount: m.GetServiceAccount()}
		if a.Namespace == "" || a.ServiceAccount == "" {
			s.fail(fmt.Errorf("service account %s: want namespace and name", quote(a.Namespace+"/"+a.ServiceAccount)))
			continue
		}
		*out = append(*out, a)
	}
}

func (s *reader) prefixes(out *[]netip.Prefix, list []*authz.Address) {
	for _, m := range list {
		p, err := toPrefix(m.GetAddress(), m.GetLength())
		if err != nil {
			s.fail(err)
			continue
		}
		*out = append(*out, p)
	}
}

func (s *reader) ports(out *[]uint16, list []uint32) {
	for _, n := range list {
		p, err := toPort("port", n)
		if err != nil {
			s.fail(err)
			continue
		}
		*out = append(*out, p)
	}
}

// isEmpty reports a match without any field.
func isEmpty(m state.Match) bool {
	return len(m.Namespaces)+len(m.NotNamespaces)+len(m.Principals)+len(m.NotPrincipals)+
		len(m.ServiceAccounts)+len(m.NotServiceAccounts)+len(m.SourceIPs)+len(m.NotSourceIPs)+
		len(m.DestinationIPs)+len(m.NotDestinationIPs)+len(m.DestinationPorts)+len(m.NotDestinationPorts) == 0
}
