package dump

import (
	"encoding/json"
	"fmt"
	"net/netip"

	"github.com/ambit-mesh/ambit/ztunnel/state"
)

// Policy is one authorization policy: Rules are rules of clauses of matches.
type Policy struct {
	Name      string      `json:"name"`
	Namespace string      `json:"namespace"`
	Scope     string      `json:"scope"`  // Global, Namespace or WorkloadSelector
	Action    string      `json:"action"` // Allow or Deny
	Rules     [][][]Match `json:"rules"`
	DryRun    bool        `json:"dryRun,omitempty"`
	// Broken is ours: why it cannot be enforced.
	Broken string `json:"broken,omitempty"`
}

// Match is one condition.
type Match struct {
	Namespaces          []String       `json:"namespaces,omitempty"`
	NotNamespaces       []String       `json:"notNamespaces,omitempty"`
	Principals          []String       `json:"principals,omitempty"`
	NotPrincipals       []String       `json:"notPrincipals,omitempty"`
	ServiceAccounts     []Account      `json:"serviceAccounts,omitempty"`
	NotServiceAccounts  []Account      `json:"notServiceAccounts,omitempty"`
	SourceIPs           []netip.Prefix `json:"sourceIps,omitempty"`
	NotSourceIPs        []netip.Prefix `json:"notSourceIps,omitempty"`
	DestinationIPs      []netip.Prefix `json:"destinationIps,omitempty"`
	NotDestinationIPs   []netip.Prefix `json:"notDestinationIps,omitempty"`
	DestinationPorts    []uint16       `json:"destinationPorts,omitempty"`
	NotDestinationPorts []uint16       `json:"notDestinationPorts,omitempty"`
	// Never is ours: the match has something that is not understood, and is never satisfied.
	Never bool `json:"never,omitempty"`
}

// Account names a service account.
type Account struct {
	Namespace      string `json:"namespace"`
	ServiceAccount string `json:"serviceAccount"`
}

// String is {"Exact":"x"}, {"Prefix":"x"}, {"Suffix":"x"}, {"Presence":[]} or, ours, {"Never":[]}.
type String state.StringMatch

var ops = []string{"Never", "Exact", "Prefix", "Suffix", "Presence"}

// MarshalJSON implements json.Marshaler.
func (s String) MarshalJSON() ([]byte, error) {
	if s.Op == state.OpPresence || s.Op == state.OpNever {
		return json.Marshal(map[string][]string{ops[s.Op]: {}})
	}
	return json.Marshal(map[string]string{ops[s.Op]: s.Value})
}

// UnmarshalJSON implements json.Unmarshaler.
func (s *String) UnmarshalJSON(b []byte) error {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(b, &m); err != nil || len(m) != 1 {
		return fmt.Errorf("string match %.60s: want one of Exact, Prefix, Suffix, Presence", b)
	}
	for name, value := range m {
		op, err := indexOf("string match", ops, name)
		if err != nil {
			return err
		}
		s.Op, s.Value = state.StringOp(op), ""
		if s.Op == state.OpPresence || s.Op == state.OpNever {
			return nil
		}
		return json.Unmarshal(value, &s.Value)
	}
	return nil
}

func ofPolicy(p *state.Policy) Policy {
	d := Policy{
		Name: p.Key.Name, Namespace: p.Key.Namespace, Scope: polScopes[p.Scope], Action: actions[p.Action],
		Rules: [][][]Match{}, DryRun: p.DryRun, Broken: p.Broken,
	}
	for _, r := range p.Rules {
		rule := [][]Match{}
		for _, c := range r.Clauses {
			clause := []Match{}
			for _, m := range c.Matches {
				clause = append(clause, Match{
					ofStrings(m.Namespaces), ofStrings(m.NotNamespaces), ofStrings(m.Principals), ofStrings(m.NotPrincipals),
					ofAccounts(m.ServiceAccounts), ofAccounts(m.NotServiceAccounts), m.SourceIPs, m.NotSourceIPs,
					m.DestinationIPs, m.NotDestinationIPs, m.DestinationPorts, m.NotDestinationPorts, m.Never,
				})
			}
			rule = append(rule, clause)
		}
		d.Rules = append(d.Rules, rule)
	}
	return d
}

func ofStrings(in []state.StringMatch) (out []String) {
	for _, s := range in {
		out = append(out, String(s))
	}
	return out
}

func ofAccounts(in []state.AccountMatch) (out []Account) {
	for _, a := range in {
		out = append(out, Account(a))
	}
	return out
}

// toPolicy is the reverse of ofPolicy.
func toPolicy(d Policy) (*state.Policy, error) {
	scope, err := indexOf("scope", polScopes, d.Scope)
	if err != nil {
		return nil, err
	}
	action, err := indexOf("action", actions, d.Action)
	if err != nil {
		return nil, err
	}
	p := &state.Policy{
		Key: state.Key{Namespace: d.Namespace, Name: d.Name}, Scope: state.PolicyScope(scope), Action: state.Action(action),
		DryRun: d.DryRun, Broken: d.Broken,
	}
	for _, rule := range d.Rules {
		var r state.Rule
		for _, clause := range rule {
			var c state.Clause
			for _, m := range clause {
				c.Matches = append(c.Matches, state.Match{
					Namespaces: toStrings(m.Namespaces), NotNamespaces: toStrings(m.NotNamespaces),
					Principals: toStrings(m.Principals), NotPrincipals: toStrings(m.NotPrincipals),
					ServiceAccounts: toAccounts(m.ServiceAccounts), NotServiceAccounts: toAccounts(m.NotServiceAccounts),
					SourceIPs: m.SourceIPs, NotSourceIPs: m.NotSourceIPs, DestinationIPs: m.DestinationIPs, NotDestinationIPs: m.NotDestinationIPs,
					DestinationPorts: m.DestinationPorts, NotDestinationPorts: m.NotDestinationPorts, Never: m.Never,
				})
			}
			r.Clauses = append(r.Clauses, c)
		}
		p.Rules = append(p.Rules, r)
	}
	return p, nil
}

func toStrings(in []String) (out []state.StringMatch) {
	for _, s := range in {
		out = append(out, state.StringMatch(s))
	}
	return out
}

func toAccounts(in []Account) (out []state.AccountMatch) {
	for _, a := range in {
		out = append(out, state.AccountMatch(a))
	}
	return out
}
