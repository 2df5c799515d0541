package policy

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/ambit-mesh/ambit/ztunnel/state"
)

// facts is what rules compare with, computed once for a connection.
type facts struct {
	namespace      string
	serviceAccount string
	authenticated  bool
	principal      string // without scheme; "" for plain text
	source         netip.Addr
	destination    netip.Addr
	port           uint16
}

func factsOf(c Conn) facts {
	f := facts{
		namespace:      c.Peer.Namespace,
		serviceAccount: c.Peer.ServiceAccount,
		principal:      c.Peer.Principal(),
		source:         c.Source.Addr().Unmap().WithZone(""),
		destination:    c.Destination.Addr().Unmap().WithZone(""),
		port:           c.Destination.Port(),
	}
	f.authenticated = f.principal != ""
	return f
}

// ruleMatches: all clauses match; a rule without clauses always does.
func ruleMatches(r *state.Rule, f *facts) bool {
	for i := range r.Clauses {
		if !clauseMatches(&r.Clauses[i], f) {
			return false
		}
	}
	return true
}

// clauseMatches: any match is satisfied; a clause without matches always is.
func clauseMatches(c *state.Clause, f *facts) bool {
	if len(c.Matches) == 0 {
		return true
	}
	for i := range c.Matches {
		if satisfied(&c.Matches[i], f) {
			return true
		}
	}
	return false
}

// satisfied: every pair of fields is, and there is at least one.
func satisfied(m *state.Match, f *facts) bool {
	if m.Never || empty(m) {
		return false
	}
	return pair(m.Namespaces, m.NotNamespaces, func(s state.StringMatch) bool { return hits(s, f.namespace) }) &&
		pair(m.Principals, m.NotPrincipals, func(s state.StringMatch) bool { return hits(s, f.principal) && f.authenticated }) &&
		pair(m.ServiceAccounts, m.NotServiceAccounts, func(a state.AccountMatch) bool {
			return f.authenticated && a.Namespace == f.namespace && a.ServiceAccount == f.serviceAccount
		}) &&
		pair(m.SourceIPs, m.NotSourceIPs, func(p netip.Prefix) bool { return p.Contains(f.source) }) &&
		pair(m.DestinationIPs, m.NotDestinationIPs, func(p netip.Prefix) bool { return p.Contains(f.destination) }) &&
		pair(m.DestinationPorts, m.NotDestinationPorts, func(p uint16) bool { return p == f.port })
}

// pair: no positives, or one of them hits; and no negative hits.
func pair[T any](positive, negative []T, hit func(T) bool) bool {
	return (len(positive) == 0 || slices.ContainsFunc(positive, hit)) && !slices.ContainsFunc(negative, hit)
}

func empty(m *state.Match) bool {
	return len(m.Namespaces)+len(m.NotNamespaces)+len(m.Principals)+len(m.NotPrincipals)+
		len(m.ServiceAccounts)+len(m.NotServiceAccounts)+len(m.SourceIPs)+len(m.NotSourceIPs)+
		len(m.DestinationIPs)+len(m.NotDestinationIPs)+len(m.DestinationPorts)+len(m.NotDestinationPorts) == 0
}

func hits(s state.StringMatch, value string) bool {
	switch s.Op {
	case state.OpExact:
		return value == s.Value
	case state.OpPrefix:
		return strings.HasPrefix(value, s.Value)
	case state.OpSuffix:
		return strings.HasSuffix(value, s.Value)
	case state.OpPresence:
		return value != ""
	default:
		return false
	}
}
