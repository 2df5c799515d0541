package translate

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/ambit-mesh/ambit/controller/api/authz"
)

// values translates the lists of one place in a rule and remembers whether something in it was lost.
//
// A list of which one value is lost is lost as a whole in a DENY (what is left would deny less), and with its rule in an
// ALLOW.
type values struct {
	r    *ruleTranslator
	path string
	lost bool
}

func (v *values) lose(field, why string) {
	path := v.path
	if field != "" {
		path += "." + field
	}
	v.r.report.add(path, why)
	v.lost = true
}

// unknown reports attributes of requests, which only a waypoint sees.
func (v *values) unknown(field string, list []string) {
	if len(list) > 0 {
		v.lose(field, "needs a waypoint")
	}
}

// nothing reports a place that says nothing at all, which no API server would take and which must not mean "everything".
func (v *values) nothing(empty bool) {
	if empty && !v.lost {
		v.lose("", "says nothing")
	}
}

// each translates a list value by value.
func each[T any](v *values, field string, list []string, one func(string) (T, string)) []T {
	var out []T
	good := true
	for i, s := range list {
		t, why := one(s)
		if why != "" {
			v.lose(fmt.Sprintf("%s[%d]", field, i), why)
			good = false
			continue
		}
		out = append(out, t)
	}
	if !good {
		return nil
	}
	return out
}

func (v *values) strings(field string, list []string) []*authz.StringMatch {
	return each(v, field, list, pattern)
}

// pattern reads Istio's wildcards: a star alone, at the start or at the end.
func pattern(s string) (*authz.StringMatch, string) {
	switch inner := strings.TrimPrefix(s, "*"); {
	case s == "":
		return nil, "is empty"
	case s == "*":
		return presence(), ""
	case strings.Contains(strings.TrimSuffix(inner, "*"), "*") || inner != s && strings.HasSuffix(inner, "*"):
		// No name has a star: taken as it is, it would never match, and a DENY or an exclusion have no effect.
		return nil, fmt.Sprintf("%q has a star elsewhere than once, at its start or end", clip(s))
	case strings.HasPrefix(s, "*"):
		return &authz.StringMatch{MatchType: &authz.StringMatch_Suffix{Suffix: s[1:]}}, ""
	case strings.HasSuffix(s, "*"):
		return prefix(s[:len(s)-1]), ""
	default:
		return &authz.StringMatch{MatchType: &authz.StringMatch_Exact{Exact: s}}, ""
	}
}

func prefix(s string) *authz.StringMatch {
	return &authz.StringMatch{MatchType: &authz.StringMatch_Prefix{Prefix: s}}
}

// principals reads identities without scheme. One of our own trust domain, by any of its names, means that of all of them.
func (v *values) principals(field string, list []string) []*authz.StringMatch {
	var out []*authz.StringMatch
	for _, group := range each(v, field, list, func(s string) ([]*authz.StringMatch, string) {
		s = strings.TrimPrefix(s, "spiffe://")
		if _, why := pattern(s); why != "" {
			return nil, why
		}
		var all []*authz.StringMatch
		for _, name := range v.r.t.aliases(s) {
			m, _ := pattern(name)
			all = append(all, m)
		}
		return all, ""
	}) {
		out = append(out, group...)
	}
	return out
}

// aliases lists a principal under every name of the mesh's trust domain, if it is under one of them.
func (t *Translator) aliases(principal string) []string {
	td, rest, ok := strings.Cut(principal, "/")
	ours := append([]string{t.set.TrustDomain}, t.set.TrustDomainAliases...)
	if !ok || td != "cluster.local" && !slices.Contains(ours, td) {
		return []string{principal}
	}
	out := make([]string, 0, len(ours))
	for _, name := range ours {
		if p := name + "/" + rest; !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}

// domains reads trust domains as prefixes of principals.
func (v *values) domains(field string, list []string) []*authz.StringMatch {
	var out []*authz.StringMatch
	for _, group := range each(v, field, list, func(s string) ([]*authz.StringMatch, string) {
		switch {
		case s == "" || strings.Contains(s, "/") || strings.Contains(strings.TrimSuffix(strings.TrimPrefix(s, "*"), "*"), "*"):
			return nil, "is not a trust domain"
		case s == "*":
			return []*authz.StringMatch{presence()}, ""
		case strings.HasPrefix(s, "*"):
			return nil, "a trust domain's ending cannot be checked by a node proxy"
		case strings.HasSuffix(s, "*"):
			return []*authz.StringMatch{prefix(strings.TrimSuffix(s, "*"))}, ""
		}
		var all []*authz.StringMatch
		for _, p := range v.r.t.aliases(s + "/") {
			all = append(all, prefix(p))
		}
		return all, ""
	}) {
		out = append(out, group...)
	}
	return out
}

// accounts reads "namespace/account", or an account of the policy's namespace.
func (v *values) accounts(field string, list []string) []*authz.ServiceAccountMatch {
	return each(v, field, list, func(s string) (*authz.ServiceAccountMatch, string) {
		ns, name, ok := strings.Cut(s, "/")
		if !ok {
			ns, name = v.r.policy.Namespace, s
		}
		if ns == "" || name == "" || strings.ContainsAny(s, "*") || strings.Contains(name, "/") {
			return nil, fmt.Sprintf("%q is not a service account", clip(s))
		}
		return &authz.ServiceAccountMatch{Namespace: ns, ServiceAccount: name}, ""
	})
}

// addresses reads single addresses and blocks.
func (v *values) addresses(field string, list []string) []*authz.Address {
	return each(v, field, list, func(s string) (*authz.Address, string) {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			a, err := netip.ParseAddr(s)
			if err != nil || a.Zone() != "" {
				return nil, fmt.Sprintf("%q is not an address", clip(s))
			}
			a = a.Unmap()
			p = netip.PrefixFrom(a, a.BitLen())
		}
		if a := p.Addr(); a.Is4In6() && p.Bits() >= 96 { // the same addresses as nodes see them
			p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
		}
		p = p.Masked()
		return &authz.Address{Address: p.Addr().AsSlice(), Length: uint32(p.Bits())}, ""
	})
}

func (v *values) ports(field string, list []string) []uint32 {
	return each(v, field, list, func(s string) (uint32, string) {
		n, err := strconv.ParseUint(s, 10, 16)
		if err != nil || n == 0 {
			return 0, fmt.Sprintf("%q is not a port", clip(s))
		}
		return uint32(n), ""
	})
}
