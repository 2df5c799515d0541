package policy

import (
	"net/netip"

	"github.com/ambit-mesh/ambit/ztunnel/state"
)

// index finds, among the rules of a layer, those that may match a connection, without looking at the others. A rule is
// filed under the values of one of its clauses: it can match only if that clause does, and that clause only with one of
// these values. Rules without such a clause are looked at each time.
type index struct {
	principals map[string][]ref
	accounts   map[state.AccountMatch][]ref
	namespaces map[string][]ref
	sources    map[netip.Prefix][]ref
	lengths    [2][]int // prefix lengths in use in sources, IPv4 and IPv6
	ports      map[uint16][]ref
	rest       []ref
}

// ref is a rule of a layer: positions in Layer.Policies and Policy.Rules.
type ref struct{ policy, rule int32 }

// field is what a match may be filed under, best first.
type field uint8

const (
	byPrincipal field = iota
	byAccount
	bySource
	byNamespace
	byPort
	byNothing
)

// fileable is the best field of a match whose positives are all exact values.
func fileable(m *state.Match) field {
	switch {
	case len(m.Principals) > 0 && allExact(m.Principals):
		return byPrincipal
	case len(m.ServiceAccounts) > 0:
		return byAccount
	case len(m.SourceIPs) > 0:
		return bySource
	case len(m.Namespaces) > 0 && allExact(m.Namespaces):
		return byNamespace
	case len(m.DestinationPorts) > 0:
		return byPort
	default:
		return byNothing
	}
}

func allExact(list []state.StringMatch) bool {
	for _, s := range list {
		if s.Op != state.OpExact {
			return false
		}
	}
	return true
}

func newIndex() *index {
	return &index{
		principals: map[string][]ref{},
		accounts:   map[state.AccountMatch][]ref{},
		namespaces: map[string][]ref{},
		sources:    map[netip.Prefix][]ref{},
		ports:      map[uint16][]ref{},
	}
}

// add files a rule.
func (x *index) add(r ref, rule *state.Rule) {
	best, worst := -1, byNothing
	for i := range rule.Clauses {
		if w, ok := worstField(&rule.Clauses[i]); ok && w < worst {
			best, worst = i, w
		}
	}
	if best < 0 {
		x.rest = append(x.rest, r)
		return
	}
	for i := range rule.Clauses[best].Matches {
		x.file(r, &rule.Clauses[best].Matches[i])
	}
}

// worstField is the least selective field among a clause's matches; a clause is fileable only if each of its matches
// is. A match that is never satisfied asks for no file.
func worstField(c *state.Clause) (field, bool) {
	worst, any := byPrincipal, false
	for i := range c.Matches {
		m := &c.Matches[i]
		if m.Never || empty(m) {
			any = true
			continue
		}
		f := fileable(m)
		if f == byNothing {
			return byNothing, false
		}
		worst, any = max(worst, f), true
	}
	return worst, any
}

func (x *index) file(r ref, m *state.Match) {
	if m.Never || empty(m) {
		return
	}
	switch fileable(m) {
	case byPrincipal:
		for _, s := range m.Principals {
			put(x.principals, s.Value, r)
		}
	case byAccount:
		for _, a := range m.ServiceAccounts {
			put(x.accounts, a, r)
		}
	case bySource:
		for _, p := range m.SourceIPs {
			x.useLength(p)
			put(x.sources, p.Masked(), r)
		}
	case byNamespace:
		for _, s := range m.Namespaces {
			put(x.namespaces, s.Value, r)
		}
	case byPort:
		for _, p := range m.DestinationPorts {
			put(x.ports, p, r)
		}
	}
}

func (x *index) useLength(p netip.Prefix) {
	family := 0
	if p.Addr().Is6() {
		family = 1
	}
	for _, n := range x.lengths[family] {
		if n == p.Bits() {
			return
		}
	}
	x.lengths[family] = append(x.lengths[family], p.Bits())
}

func put[K comparable](m map[K][]ref, k K, r ref) {
	list := m[k]
	if n := len(list); n > 0 && list[n-1] == r {
		return // the same rule under the same value twice
	}
	m[k] = append(list, r)
}

// candidates calls visit with groups of rules that may match, until it returns false.
func (x *index) candidates(f *facts, visit func([]ref)) {
	visit(x.rest)
	if f.authenticated {
		visit(x.principals[f.principal])
		visit(x.accounts[state.AccountMatch{Namespace: f.namespace, ServiceAccount: f.serviceAccount}])
	}
	visit(x.namespaces[f.namespace])
	visit(x.ports[f.port])
	if len(x.sources) == 0 || !f.source.IsValid() {
		return
	}
	lengths := x.lengths[0]
	if f.source.Is6() {
		lengths = x.lengths[1]
	}
	for _, bits := range lengths {
		if p, err := f.source.Prefix(bits); err == nil {
			visit(x.sources[p])
		}
	}
}
