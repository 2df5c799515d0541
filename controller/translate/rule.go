package translate

import (
	"fmt"
	"strings"

	securityapi "istio.io/api/security/v1beta1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"

	"github.com/ambit-mesh/ambit/controller/api/authz"
)

// ruleTranslator turns one rule of a policy into groups.
type ruleTranslator struct {
	t      *Translator
	policy *securityv1.AuthorizationPolicy
	deny   bool
	path   string // rules[0]
	report *findings
}

// clause is one condition of a rule: its matches are alternatives.
type clause struct {
	matches []*authz.Match
	// always: some alternative holds for every connection, as far as a node can tell.
	always bool
	// lost: something in it cannot be checked by a node.
	lost bool
}

// groups are alternatives; a rule needs several only where two lists of principals must both hold.
func (r *ruleTranslator) groups(rule *securityapi.Rule) []*authz.Group {
	shared := []clause{}
	if len(rule.GetTo()) > 0 {
		shared = append(shared, r.to(rule.To))
	}
	for i, c := range rule.GetWhen() {
		shared = append(shared, r.when(fmt.Sprintf("%s.when[%d]", r.path, i), c)...)
	}
	if len(rule.GetFrom()) == 0 {
		return r.group(shared)
	}
	sources := make([]sourceMatch, len(rule.From))
	split := false
	for i, f := range rule.From {
		sources[i] = r.source(fmt.Sprintf("%s.from[%d].source", r.path, i), f.GetSource())
		split = split || sources[i].domains != nil
	}
	if !split {
		from := clause{}
		for _, s := range sources {
			from.or(s.match, s.lost)
		}
		return r.group(append([]clause{from}, shared...))
	}
	var out []*authz.Group
	for _, s := range sources {
		from := clause{}
		from.or(s.match, s.lost)
		if s.domains != nil && isEmpty(s.match) && !s.lost { // only a trust domain
			from = clause{always: true}
		}
		clauses := []clause{from}
		if s.domains != nil {
			clauses = append(clauses, clause{matches: []*authz.Match{{Principals: s.domains}}})
		}
		out = append(out, r.group(append(clauses, shared...))...)
	}
	return out
}

// or adds an alternative.
func (c *clause) or(m *authz.Match, lost bool) {
	c.lost = c.lost || lost
	if isEmpty(m) {
		c.always = true
		return
	}
	c.matches = append(c.matches, m)
}

// group joins clauses. Empty matches are never sent: a node takes them for "never".
func (r *ruleTranslator) group(clauses []clause) []*authz.Group {
	g := &authz.Group{}
	for _, c := range clauses {
		if c.lost && !r.deny {
			return nil // the rule allows nothing
		}
		if !c.always {
			g.Rules = append(g.Rules, &authz.Rules{Matches: c.matches})
		}
	}
	return []*authz.Group{g}
}

// to translates operations: only ports are known to a node.
func (r *ruleTranslator) to(ops []*securityapi.Rule_To) clause {
	var c clause
	for i, to := range ops {
		path := fmt.Sprintf("%s.to[%d].operation", r.path, i)
		op := to.GetOperation()
		v := values{r: r, path: path}
		m := &authz.Match{DestinationPorts: v.ports("ports", op.GetPorts()), NotDestinationPorts: v.ports("notPorts", op.GetNotPorts())}
		v.unknown("hosts", op.GetHosts())
		v.unknown("notHosts", op.GetNotHosts())
		v.unknown("methods", op.GetMethods())
		v.unknown("notMethods", op.GetNotMethods())
		v.unknown("paths", op.GetPaths())
		v.unknown("notPaths", op.GetNotPaths())
		v.nothing(isEmpty(m))
		c.or(m, v.lost)
	}
	return c
}

// sourceMatch is one source. Its trust domains are apart: they are principals too, and both lists must hold.
type sourceMatch struct {
	match   *authz.Match
	domains []*authz.StringMatch
	lost    bool
}

func (r *ruleTranslator) source(path string, s *securityapi.Source) sourceMatch {
	v := values{r: r, path: path}
	m := &authz.Match{
		Principals:         v.principals("principals", s.GetPrincipals()),
		NotPrincipals:      v.principals("notPrincipals", s.GetNotPrincipals()),
		Namespaces:         v.strings("namespaces", s.GetNamespaces()),
		NotNamespaces:      v.strings("notNamespaces", s.GetNotNamespaces()),
		ServiceAccounts:    v.accounts("serviceAccounts", s.GetServiceAccounts()),
		NotServiceAccounts: v.accounts("notServiceAccounts", s.GetNotServiceAccounts()),
		SourceIps:          v.addresses("ipBlocks", s.GetIpBlocks()),
		NotSourceIps:       v.addresses("notIpBlocks", s.GetNotIpBlocks()),
	}
	domains := v.domains("trustDomains", s.GetTrustDomains())
	m.NotPrincipals = append(m.NotPrincipals, v.domains("notTrustDomains", s.GetNotTrustDomains())...)
	v.unknown("requestPrincipals", s.GetRequestPrincipals())
	v.unknown("notRequestPrincipals", s.GetNotRequestPrincipals())
	v.unknown("remoteIpBlocks", s.GetRemoteIpBlocks())
	v.unknown("notRemoteIpBlocks", s.GetNotRemoteIpBlocks())
	v.nothing(isEmpty(m) && domains == nil)
	return sourceMatch{m, domains, v.lost}
}

// when translates a condition on an attribute. Trust domains may need a clause beside.
func (r *ruleTranslator) when(path string, c *securityapi.Condition) []clause {
	v := values{r: r, path: path}
	yes, no := c.GetValues(), c.GetNotValues()
	var m *authz.Match
	switch c.GetKey() {
	case "source.ip":
		m = &authz.Match{SourceIps: v.addresses("values", yes), NotSourceIps: v.addresses("notValues", no)}
	case "source.namespace":
		m = &authz.Match{Namespaces: v.strings("values", yes), NotNamespaces: v.strings("notValues", no)}
	case "source.principal":
		m = &authz.Match{Principals: v.principals("values", yes), NotPrincipals: v.principals("notValues", no)}
	case "source.serviceAccount":
		m = &authz.Match{ServiceAccounts: v.accounts("values", yes), NotServiceAccounts: v.accounts("notValues", no)}
	case "source.trustDomain":
		m = &authz.Match{Principals: v.domains("values", yes), NotPrincipals: v.domains("notValues", no)}
	case "destination.ip":
		m = &authz.Match{DestinationIps: v.addresses("values", yes), NotDestinationIps: v.addresses("notValues", no)}
	case "destination.port":
		m = &authz.Match{DestinationPorts: v.ports("values", yes), NotDestinationPorts: v.ports("notValues", no)}
	default:
		m = &authz.Match{}
		v.lose("", fmt.Sprintf("condition %q needs a waypoint", clip(c.GetKey())))
	}
	v.nothing(isEmpty(m))
	out := clause{}
	out.or(m, v.lost)
	return []clause{out}
}

func isEmpty(m *authz.Match) bool {
	return len(m.Namespaces)+len(m.NotNamespaces)+len(m.Principals)+len(m.NotPrincipals)+len(m.SourceIps)+len(m.NotSourceIps)+
		len(m.DestinationIps)+len(m.NotDestinationIps)+len(m.DestinationPorts)+len(m.NotDestinationPorts)+
		len(m.ServiceAccounts)+len(m.NotServiceAccounts) == 0
}

func clip(s string) string {
	const most = 64
	if len(s) > most {
		s = s[:most] + "..."
	}
	return strings.ToValidUTF8(s, "?")
}
