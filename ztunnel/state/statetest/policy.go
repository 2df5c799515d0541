package statetest

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/ambit-mesh/ambit/ztunnel/state"
)

// parsePolicy reads
//
//	ns/name allow|deny [global|namespace|selector] [dry-run] [broken] [none] field=value,value ... [then=also|and|or ...]
//
// Fields that follow each other are one match. then=also starts another match of the clause, then=and another clause,
// then=or another rule. match=empty is a match without fields, match=unknown one that this version does not understand.
// A line without fields is one rule without clauses, which matches everything; "none" is no rule at all. A field is
// from-ns, principal, sa, src, dst or port, with "not-" before it for a negative; "*" is presence, "x*" a prefix, "*x" a
// suffix.
func parsePolicy(a *Args) (*state.Policy, error) {
	p := &state.Policy{Key: key(a.Words[0]), Scope: state.ScopeNamespace, DryRun: a.Has("dry-run")}
	if a.Has("global") {
		p.Scope = state.ScopeGlobal
	}
	if a.Has("selector") {
		p.Scope = state.ScopeSelector
	}
	if a.Has("allow") {
		p.Action = state.Allow
	}
	if a.Has("broken") {
		p.Broken = "does not parse"
		return p, nil
	}
	if a.Has("none") {
		return p, nil
	}
	var rule state.Rule
	var clause state.Clause
	var match state.Match
	filled := false
	endMatch := func() {
		if filled {
			clause.Matches = append(clause.Matches, match)
		}
		match, filled = state.Match{}, false
	}
	endClause := func() {
		endMatch()
		if clause.Matches != nil {
			rule.Clauses = append(rule.Clauses, clause)
		}
		clause = state.Clause{}
	}
	endRule := func() {
		endClause()
		p.Rules = append(p.Rules, rule)
		rule = state.Rule{}
	}
	for _, pair := range a.pairs {
		a.used[pair[0]] = true
		switch pair[0] {
		case "then":
			switch pair[1] {
			case "also":
				endMatch()
			case "and":
				endClause()
			case "or":
				endRule()
			default:
				return p, fmt.Errorf("then=%s", pair[1])
			}
			continue
		case "match":
			filled = true
			match.Never = pair[1] == "unknown"
			continue
		}
		filled = true
		for v := range strings.SplitSeq(pair[1], ",") {
			if err := addField(&match, pair[0], v); err != nil {
				return p, err
			}
		}
	}
	endRule()
	return p, nil
}

func addField(m *state.Match, field, v string) error {
	name, negative := strings.CutPrefix(field, "not-")
	switch name {
	case "from-ns":
		addTo(&m.Namespaces, &m.NotNamespaces, negative, pattern(v))
	case "principal":
		addTo(&m.Principals, &m.NotPrincipals, negative, pattern(v))
	case "sa":
		k := key(v)
		addTo(&m.ServiceAccounts, &m.NotServiceAccounts, negative, state.AccountMatch{Namespace: k.Namespace, ServiceAccount: k.Name})
	case "src", "dst":
		prefix, err := parsePrefix(v)
		if err != nil {
			return err
		}
		if name == "src" {
			addTo(&m.SourceIPs, &m.NotSourceIPs, negative, prefix)
		} else {
			addTo(&m.DestinationIPs, &m.NotDestinationIPs, negative, prefix)
		}
	case "port":
		n, err := strconv.ParseUint(v, 10, 16)
		if err != nil {
			return err
		}
		addTo(&m.DestinationPorts, &m.NotDestinationPorts, negative, uint16(n))
	default:
		return fmt.Errorf("unknown field %q", field)
	}
	return nil
}

func addTo[T any](positive, negative *[]T, isNegative bool, v T) {
	if isNegative {
		*negative = append(*negative, v)
		return
	}
	*positive = append(*positive, v)
}

func pattern(v string) state.StringMatch {
	switch {
	case v == "*":
		return state.StringMatch{Op: state.OpPresence}
	case strings.HasPrefix(v, "*"):
		return state.StringMatch{Op: state.OpSuffix, Value: v[1:]}
	case strings.HasSuffix(v, "*"):
		return state.StringMatch{Op: state.OpPrefix, Value: v[:len(v)-1]}
	default:
		return state.StringMatch{Op: state.OpExact, Value: v}
	}
}

func parsePrefix(v string) (netip.Prefix, error) {
	if strings.Contains(v, "/") {
		p, err := netip.ParsePrefix(v)
		return p.Masked(), err
	}
	ip, err := netip.ParseAddr(v)
	return netip.PrefixFrom(ip, ip.BitLen()), err
}
