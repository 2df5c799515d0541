package validate

import (
	"fmt"
	"slices"
	"strings"

	securityapi "istio.io/api/security/v1beta1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// list is a field of a source or an operation with its negation.
type list struct {
	name   string
	values []string
	one    func(p *field.Path, s string)
}

// lists checks values, and that no value is both asked for and excluded. It reports how many values there are.
func (r *rule) lists(p *field.Path, all ...list) (n int) {
	by := map[string][]string{}
	for _, l := range all {
		n += len(l.values)
		by[l.name] = l.values
		for i, s := range l.values {
			at := p.Child(l.name).Index(i)
			switch {
			case s == "":
				r.fail(at, "", "value is empty")
			case l.one != nil:
				l.one(at, s)
			}
		}
	}
	for _, l := range all {
		for i, s := range by[negated(l.name)] {
			if slices.Contains(l.values, s) {
				r.warn(p.Child(negated(l.name)).Index(i), "", "%q is in %s, too: nothing can match both", clip(s), l.name)
			}
		}
	}
	return n
}

func negated(name string) string { return "not" + strings.ToUpper(name[:1]) + name[1:] }

// source reports whether a node proxy can check something of it.
func (r *rule) source(p *field.Path, s *securityapi.Source) bool {
	l4 := r.lists(
		p,
		list{"principals", s.GetPrincipals(), r.principal}, list{"notPrincipals", s.GetNotPrincipals(), r.principal},
		list{"namespaces", s.GetNamespaces(), r.wildcard}, list{"notNamespaces", s.GetNotNamespaces(), r.wildcard},
		list{"serviceAccounts", s.GetServiceAccounts(), r.account}, list{"notServiceAccounts", s.GetNotServiceAccounts(), r.account},
		list{"trustDomains", s.GetTrustDomains(), r.trustDomain}, list{"notTrustDomains", s.GetNotTrustDomains(), r.trustDomain},
		list{"ipBlocks", s.GetIpBlocks(), r.address}, list{"notIpBlocks", s.GetNotIpBlocks(), r.address},
	)
	l7 := r.lists(
		p,
		list{"requestPrincipals", s.GetRequestPrincipals(), r.wildcard}, list{"notRequestPrincipals", s.GetNotRequestPrincipals(), r.wildcard},
		list{"remoteIpBlocks", s.GetRemoteIpBlocks(), r.address}, list{"notRemoteIpBlocks", s.GetNotRemoteIpBlocks(), r.address},
	)
	if l4+l7 == 0 {
		r.fail(p, "to match every source leave `from` out", "the source says nothing")
		return false
	}
	r.needsWaypoint(p.Child("requestPrincipals"), s.GetRequestPrincipals())
	r.needsWaypoint(p.Child("notRequestPrincipals"), s.GetNotRequestPrincipals())
	r.needsWaypoint(p.Child("remoteIpBlocks"), s.GetRemoteIpBlocks())
	r.needsWaypoint(p.Child("notRemoteIpBlocks"), s.GetNotRemoteIpBlocks())
	r.accountsAlone(p, s)
	if r.action == securityapi.AuthorizationPolicy_CUSTOM {
		for name, values := range identities(s) {
			if len(values) > 0 {
				r.fail(p.Child(name), "decide by identity in an ALLOW or DENY policy beside it", "CUSTOM rules cannot match identities")
			}
		}
	}
	return l4 > 0
}

func identities(s *securityapi.Source) map[string][]string {
	return map[string][]string{
		"principals": s.GetPrincipals(), "notPrincipals": s.GetNotPrincipals(), "namespaces": s.GetNamespaces(), "notNamespaces": s.GetNotNamespaces(),
		"serviceAccounts": s.GetServiceAccounts(), "notServiceAccounts": s.GetNotServiceAccounts(), "trustDomains": s.GetTrustDomains(),
		"notTrustDomains": s.GetNotTrustDomains(), "requestPrincipals": s.GetRequestPrincipals(), "notRequestPrincipals": s.GetNotRequestPrincipals(),
	}
}

func (r *rule) accountsAlone(p *field.Path, s *securityapi.Source) {
	const most = 16
	for name, accounts := range map[string][]string{"serviceAccounts": s.GetServiceAccounts(), "notServiceAccounts": s.GetNotServiceAccounts()} {
		if len(accounts) == 0 {
			continue
		}
		if len(accounts) > most {
			r.fail(p.Child(name), "use several sources", "%d accounts: want at most %d", len(accounts), most)
		}
		if len(s.GetPrincipals())+len(s.GetNotPrincipals())+len(s.GetNamespaces())+len(s.GetNotNamespaces()) > 0 {
			r.fail(p.Child(name), "use a source of its own for them", "%s exclude principals and namespaces in the same source", name)
		}
	}
}

// principal checks an identity without its scheme: trust-domain/ns/namespace/sa/account.
func (r *rule) principal(p *field.Path, s string) {
	if name, ok := strings.CutPrefix(s, "spiffe://"); ok {
		r.warn(p, fmt.Sprintf("use %q", name), "principals are written without a scheme; it is read as if there was none, but other meshes never match it")
		s = name
	}
	r.wildcard(p, s)
	if strings.Contains(s, "*") {
		return
	}
	part := strings.Split(s, "/")
	if len(part) == 5 && part[1] == "ns" && part[3] == "sa" && !slices.Contains(part, "") {
		return
	}
	use := "write trust-domain/ns/namespace/sa/account, as cluster.local/ns/shop/sa/web"
	if len(part) == 2 {
		use = fmt.Sprintf("use serviceAccounts for %q, or \"cluster.local/ns/%s/sa/%s\"", s, part[0], part[1])
	}
	r.warn(p, use, "%q is no identity: it never matches", clip(s))
}

// wildcard: a star stands at the start or at the end. What has others matches nothing, so node proxies do without it.
func (r *rule) wildcard(p *field.Path, s string) {
	if otherStars(s) {
		r.lost = r.lost || r.node
		r.warn(p, "a star matches once, at the start or at the end", "%q has another star: it matches nothing", clip(s))
	}
}

// otherStars reports stars that match nothing but themselves.
func otherStars(s string) bool {
	inner := strings.TrimSuffix(s, "*")
	return s != "*" && (strings.Contains(strings.TrimPrefix(inner, "*"), "*") || strings.HasPrefix(s, "*") && inner != s)
}

func (r *rule) account(p *field.Path, s string) {
	ns, name, ok := strings.Cut(s, "/")
	switch {
	case len(s) > 320:
		r.fail(p, "", "%d characters: want at most 320", len(s))
	case strings.Contains(s, "*"):
		r.fail(p, "use principals, as cluster.local/ns/shop/sa/*", "service accounts know no wildcards")
	case ok && (ns == "" || name == "" || strings.Contains(name, "/")):
		r.fail(p, "write namespace/account, or an account of the policy's namespace", "%q is not a service account", clip(s))
	}
}

func (r *rule) trustDomain(p *field.Path, s string) {
	switch {
	case strings.Contains(s, "/"):
		r.fail(p, "write the domain alone, as cluster.local", "%q is not a trust domain", clip(s))
	case s != "*" && strings.HasPrefix(s, "*") && r.node:
		r.lost = true
		r.warn(p, "name the trust domains", "the ending of a trust domain cannot be checked by node proxies")
	}
}

// operation reports whether a node proxy can check something of it.
func (r *rule) operation(p *field.Path, o *securityapi.Operation) bool {
	l4 := r.lists(p, list{"ports", o.GetPorts(), r.portText}, list{"notPorts", o.GetNotPorts(), r.portText})
	l7 := r.lists(
		p,
		list{"hosts", o.GetHosts(), r.wildcard}, list{"notHosts", o.GetNotHosts(), r.wildcard},
		list{"methods", o.GetMethods(), r.method}, list{"notMethods", o.GetNotMethods(), r.method},
		list{"paths", o.GetPaths(), r.path}, list{"notPaths", o.GetNotPaths(), r.path},
	)
	if l4+l7 == 0 {
		r.fail(p, "to match every operation leave `to` out", "the operation says nothing")
		return false
	}
	r.needsWaypoint(p.Child("hosts"), o.GetHosts())
	r.needsWaypoint(p.Child("notHosts"), o.GetNotHosts())
	r.needsWaypoint(p.Child("methods"), o.GetMethods())
	r.needsWaypoint(p.Child("notMethods"), o.GetNotMethods())
	r.needsWaypoint(p.Child("paths"), o.GetPaths())
	r.needsWaypoint(p.Child("notPaths"), o.GetNotPaths())
	return l4 > 0
}

func (r *rule) portText(p *field.Path, s string) {
	if _, ok := parsePort(s); !ok {
		r.fail(p, "", "%q is not a port: want 1 to 65535", clip(s))
	}
}

func (r *rule) method(p *field.Path, s string) {
	r.wildcard(p, s)
	if up := strings.ToUpper(s); up != s {
		r.warn(p, fmt.Sprintf("use %q", clip(up)), "methods are compared by case: %q never matches", clip(s))
	}
}

// path checks paths and templates: {*} is one segment, {**} the rest.
func (r *rule) path(p *field.Path, s string) {
	if !strings.ContainsAny(s, "{}") {
		if otherStars(s) {
			r.warn(p, "a star matches once, at the start or at the end; {*} is one segment of a path", "%q: other stars are taken as they are", clip(s))
		}
		if !strings.HasPrefix(s, "/") && !strings.HasPrefix(s, "*") {
			r.warn(p, fmt.Sprintf("use %q", clip("/"+s)), "paths begin with a slash: %q never matches", clip(s))
		}
		return
	}
	rest := false
	for segment := range strings.SplitSeq(strings.TrimPrefix(s, "/"), "/") {
		switch {
		case rest:
			r.fail(p, "", "{**} is the rest of the path: nothing can follow it")
			return
		case segment == "{**}":
			rest = true
		case segment != "{*}" && strings.ContainsAny(segment, "{}*"):
			r.fail(p, "a segment is a text, {*} or {**}", "%q is not a path template", clip(s))
			return
		}
	}
}
