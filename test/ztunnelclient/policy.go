package ztunnelclient

import (
	"errors"
	"net/netip"

	"google.golang.org/protobuf/encoding/protowire"
)

// Policy is an authorization policy. It matches if any rule does; a rule if all its clauses do; a clause if any of its matches
// does.
type Policy struct {
	Name, Namespace string
	Scope           string // GLOBAL, NAMESPACE or WORKLOAD_SELECTOR
	Action          string // ALLOW or DENY
	DryRun          bool   // only newer ztunnels know it: others enforce
	Rules           [][][]Match
}

// Match is one set of conditions, as text: exact "x", "x*", "*x", or "*" for presence.
type Match struct {
	Namespaces, NotNamespaces             []string
	Principals, NotPrincipals             []string
	SourceIPs, NotSourceIPs               []netip.Prefix
	DestinationIPs, NotDestinationIPs     []netip.Prefix
	DestinationPorts, NotDestinationPorts []uint16
	ServiceAccounts, NotServiceAccounts   []string // namespace/name
}

var (
	policyScopes = []string{"GLOBAL", "NAMESPACE", "WORKLOAD_SELECTOR"}
	actions      = []string{"ALLOW", "DENY"}
)

func (d decoder) policy(data []byte) (*Policy, error) {
	p := &Policy{Scope: policyScopes[0], Action: actions[0]}
	err := each(data, func(f field) (err error) {
		switch f.num {
		case 1:
			p.Name = f.str()
		case 2:
			p.Namespace = f.str()
		case 3:
			p.Scope, err = enum(policyScopes, f.varint)
		case 4:
			p.Action, err = enum(actions, f.varint)
		case 5:
			var rule [][]Match
			rule, err = d.rule(f.bytes)
			p.Rules = append(p.Rules, rule)
		case 6:
			p.DryRun = f.varint != 0
		case 7: // extensions
		default:
			d.skip("Authorization", f)
		}
		return err
	})
	return p, err
}

// rule is clauses=1, a clause matches=2.
func (d decoder) rule(data []byte) (rule [][]Match, err error) {
	err = each(data, func(f field) error {
		if f.num != 1 {
			d.skip("Group", f)
			return nil
		}
		var clause []Match
		err := each(f.bytes, func(f field) error {
			if f.num != 2 {
				d.skip("Rules", f)
				return nil
			}
			m, err := d.match(f.bytes)
			clause = append(clause, m)
			return err
		})
		rule = append(rule, clause)
		return err
	})
	return rule, err
}

func (d decoder) match(data []byte) (m Match, err error) {
	err = each(data, func(f field) error {
		switch f.num {
		case 1, 2, 3, 4:
			lists := []*[]string{&m.Namespaces, &m.NotNamespaces, &m.Principals, &m.NotPrincipals}
			if text, ok := d.stringMatch(f.bytes); ok { // an unset one is dropped
				*lists[f.num-1] = append(*lists[f.num-1], text)
			}
		case 5, 6, 7, 8:
			lists := []*[]netip.Prefix{&m.SourceIPs, &m.NotSourceIPs, &m.DestinationIPs, &m.NotDestinationIPs}
			if p, ok := prefix(f.bytes); ok { // a bad one is dropped, which may widen the match
				*lists[f.num-5] = append(*lists[f.num-5], p)
			}
		case 9, 10:
			lists := []*[]uint16{&m.DestinationPorts, &m.NotDestinationPorts}
			add := func(v uint64) error { *lists[f.num-9] = append(*lists[f.num-9], uint16(v)); return nil }
			if f.bytes == nil {
				return add(f.varint)
			}
			return packed(f.bytes, add)
		case 11, 12:
			lists := []*[]string{&m.ServiceAccounts, &m.NotServiceAccounts}
			var ns, name string
			err := each(f.bytes, func(f field) error {
				switch f.num {
				case 1:
					ns = f.str()
				case 2:
					name = f.str()
				}
				return nil
			})
			*lists[f.num-11] = append(*lists[f.num-11], ns+"/"+name)
			return err
		case 13: // extensions
		default:
			d.skip("Match", f)
		}
		return nil
	})
	return m, err
}

// stringMatch is a oneof exact=1 prefix=2 suffix=3 presence=4.
func (d decoder) stringMatch(data []byte) (text string, ok bool) {
	_ = each(data, func(f field) error {
		switch f.num {
		case 1:
			text, ok = f.str(), true
		case 2:
			text, ok = f.str()+"*", true
		case 3:
			text, ok = "*"+f.str(), true
		case 4:
			text, ok = "*", true
		default:
			d.skip("StringMatch", f)
		}
		return nil
	})
	return text, ok
}

// prefix is address=1 length=2.
func prefix(data []byte) (p netip.Prefix, ok bool) {
	var a netip.Addr
	length := 0
	err := each(data, func(f field) (err error) {
		switch f.num {
		case 1:
			a, err = ipOf(f.bytes)
		case 2:
			length = int(f.varint)
		}
		return err
	})
	p = netip.PrefixFrom(a, length)
	return p, err == nil && p.IsValid()
}

// packed reads varints that stand next to each other.
func packed(data []byte, f func(uint64) error) error {
	for len(data) > 0 {
		v, n := protowire.ConsumeVarint(data)
		if n < 0 {
			return errors.New("truncated list of numbers")
		}
		data = data[n:]
		if err := f(v); err != nil {
			return err
		}
	}
	return nil
}
