package policy

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/ambit-mesh/ambit/controller/api/spiffe"
	"github.com/ambit-mesh/ambit/ztunnel/state"
)

// naive evaluates policies one after the other, straight from the specification, with no index.
func naive(policies []*state.Policy, w *state.Workload, c Conn) (verdict Verdict, reason Reason, denied state.Key) {
	var deny, allow []*state.Policy
	for _, p := range policies {
		named := false
		for _, k := range w.Policies {
			named = named || k == p.Key
		}
		applies := named || p.Scope == state.ScopeGlobal || p.Scope == state.ScopeNamespace && p.Key.Namespace == w.Namespace
		if !applies || p.DryRun {
			continue
		}
		if p.Action == state.Deny {
			deny = append(deny, p)
		} else {
			allow = append(allow, p)
		}
	}
	f := factsOf(c)
	for _, p := range deny {
		if policyMatches(p, &f) {
			return Deny, ExplicitDeny, p.Key
		}
	}
	for _, k := range w.Policies {
		known := false
		for _, p := range policies {
			known = known || p.Key == k
		}
		if !known {
			return Deny, PolicyMissing, k
		}
	}
	if len(allow) == 0 {
		return Allow, NoPolicy, state.Key{}
	}
	for _, p := range allow {
		if policyMatches(p, &f) {
			return Allow, ExplicitAllow, p.Key
		}
	}
	closes := allow[0].Key
	for _, p := range allow {
		if len(p.Rules) == 0 {
			return Deny, NoAllowMatched, p.Key
		}
	}
	return Deny, NoAllowMatched, closes
}

// ruleless reports whether a policy has no rules and so only makes denial the default.
func ruleless(policies []*state.Policy, k state.Key) bool {
	for _, p := range policies {
		if p.Key == k {
			return len(p.Rules) == 0
		}
	}
	return false
}

// policyMatches: any rule matches; a policy without rules never does.
func policyMatches(p *state.Policy, f *facts) bool {
	for i := range p.Rules {
		if ruleMatches(&p.Rules[i], f) {
			return true
		}
	}
	return false
}

func randomStrings(r *rand.Rand, values ...string) []state.StringMatch {
	var out []state.StringMatch
	for range r.IntN(3) {
		v := values[r.IntN(len(values))]
		switch r.IntN(6) {
		case 0:
			out = append(out, state.StringMatch{Op: state.OpPrefix, Value: v[:r.IntN(len(v)+1)]})
		case 1:
			out = append(out, state.StringMatch{Op: state.OpSuffix, Value: v[r.IntN(len(v)+1):]})
		case 2:
			out = append(out, state.StringMatch{Op: state.OpPresence})
		default:
			out = append(out, state.StringMatch{Op: state.OpExact, Value: v})
		}
	}
	return out
}

func randomPrefixes(r *rand.Rand) []netip.Prefix {
	var out []netip.Prefix
	for range r.IntN(3) {
		ip := randomIP(r)
		p, _ := ip.Prefix(ip.BitLen() - r.IntN(12))
		out = append(out, p)
	}
	return out
}

func randomIP(r *rand.Rand) netip.Addr {
	if r.IntN(4) == 0 {
		return netip.AddrFrom16([16]byte{0x20, 1, 15: byte(r.IntN(8))})
	}
	return netip.AddrFrom4([4]byte{10, 0, 0, byte(r.IntN(8))})
}

func randomMatch(r *rand.Rand) state.Match {
	var m state.Match
	m.Never = r.IntN(30) == 0
	for range 1 + r.IntN(2) {
		ids := []string{"td/ns/a/sa/x", "td/ns/b/sa/x", "td/ns/a/sa/y"}
		switch r.IntN(11) {
		case 0:
			m.Namespaces = randomStrings(r, "a", "b", "c")
		case 1:
			m.NotNamespaces = randomStrings(r, "a", "b")
		case 2:
			m.Principals = randomStrings(r, ids...)
		case 3:
			m.NotPrincipals = randomStrings(r, ids...)
		case 4:
			m.ServiceAccounts = []state.AccountMatch{{Namespace: "a", ServiceAccount: []string{"x", "y"}[r.IntN(2)]}}
		case 5:
			m.NotServiceAccounts = []state.AccountMatch{{Namespace: "b", ServiceAccount: "x"}}
		case 6:
			m.SourceIPs = randomPrefixes(r)
		case 7:
			m.NotSourceIPs = randomPrefixes(r)
		case 8:
			m.DestinationIPs = randomPrefixes(r)
		case 9:
			m.DestinationPorts = []uint16{uint16(80 + r.IntN(3))}
		case 10:
			m.NotDestinationPorts = []uint16{uint16(80 + r.IntN(3))}
		}
	}
	return m
}

func randomPolicies(r *rand.Rand, n int) []*state.Policy {
	var out []*state.Policy
	for i := range n {
		p := &state.Policy{Key: state.Key{Namespace: "ns", Name: fmt.Sprintf("p%02d", i)}, Action: state.Action(r.IntN(2))}
		p.DryRun = r.IntN(6) == 0
		if r.IntN(3) == 0 {
			p.Key.Namespace = "other"
		}
		p.Scope = state.PolicyScope(r.IntN(3))
		for range r.IntN(3) {
			var rule state.Rule
			for range r.IntN(3) {
				var clause state.Clause
				for range r.IntN(3) {
					clause.Matches = append(clause.Matches, randomMatch(r))
				}
				rule.Clauses = append(rule.Clauses, clause)
			}
			p.Rules = append(p.Rules, rule)
		}
		out = append(out, p)
	}
	return out
}

// TestIndexEqualsLinearScan judges random connections by random policies with the index and without.
func TestIndexEqualsLinearScan(t *testing.T) {
	seen := map[Reason]int{}
	for seed := range uint64(400) {
		r := rand.New(rand.NewPCG(seed, 3))
		policies := randomPolicies(r, r.IntN(8))
		w := &state.Workload{UID: "w", Name: "w", Place: &state.Place{}, Profile: &state.Profile{Namespace: "ns", TrustDomain: "td"}}
		for _, p := range policies {
			if p.Scope == state.ScopeSelector && r.IntN(2) == 0 {
				w.Profile.Policies = append(w.Profile.Policies, p.Key)
			}
		}
		if r.IntN(10) == 0 {
			w.Profile.Policies = append(w.Profile.Policies, state.Key{Namespace: "ns", Name: "missing"})
		}
		snap := state.NewStore(state.Config{}).Apply(&state.Update{
			Policies: policies, Workloads: []*state.Workload{w}, Synced: state.TypesAll,
		})
		for range 60 {
			c := Conn{
				Workload:    "w",
				Source:      netip.AddrPortFrom(randomIP(r), 1),
				Destination: netip.AddrPortFrom(randomIP(r), uint16(80+r.IntN(3))),
			}
			if r.IntN(3) > 0 {
				c.Peer = spiffe.ID{TrustDomain: "td", Namespace: []string{"a", "b"}[r.IntN(2)], ServiceAccount: []string{"x", "y"}[r.IntN(2)]}
			}
			got := Authorize(snap, c)
			verdict, reason, denied := naive(policies, w, c)
			seen[reason]++
			if got.Verdict != verdict || got.Reason != reason {
				t.Fatalf("seed %d: %+v: got %v, linear scan says %v %v by %v", seed, c, got, verdict, reason, denied)
			}
			if reason == NoAllowMatched {
				if denied.Namespace == "" || got.Policy.Name == "" || ruleless(policies, got.Policy) != ruleless(policies, denied) {
					t.Fatalf("seed %d: denial by default names %s, linear scan says %s", seed, got.Policy, denied)
				}
				continue
			}
			if got.Policy != (state.Key{}) && reason != PolicyMissing {
				var p *state.Policy
				for _, q := range policies {
					if q.Key == got.Policy {
						p = q
					}
				}
				f := factsOf(c)
				if p == nil || !policyMatches(p, &f) {
					t.Fatalf("seed %d: decision names %s, which does not match", seed, got.Policy)
				}
			}
		}
	}
	for _, r := range []Reason{ExplicitDeny, PolicyMissing, NoPolicy, ExplicitAllow, NoAllowMatched} {
		if seen[r] < 100 {
			t.Errorf("only %d cases of %s: the test is too weak", seen[r], r)
		}
	}
}

func benchPolicies(n int, scope state.PolicyScope) *state.Update {
	u := &state.Update{Synced: state.TypesAll}
	for i := range n {
		p := &state.Policy{Key: state.Key{Namespace: "ns", Name: fmt.Sprintf("p%05d", i)}, Action: state.Allow, Scope: scope}
		for j := range 10 {
			p.Rules = append(p.Rules, state.Rule{Clauses: []state.Clause{
				{Matches: []state.Match{{Principals: []state.StringMatch{{Op: state.OpExact, Value: fmt.Sprintf("td/ns/n%d/sa/s%d", i, j)}}}}},
				{Matches: []state.Match{{DestinationPorts: []uint16{uint16(j + 1)}}}},
			}})
		}
		u.Policies = append(u.Policies, p)
	}
	u.Workloads = []*state.Workload{{UID: "w", Name: "w", Place: &state.Place{}, Profile: &state.Profile{Namespace: "ns", TrustDomain: "td"}}}
	return u
}

// BenchmarkAuthorize asks about a connection that 10,000 policies of 10 rules each do not allow.
func BenchmarkAuthorize(b *testing.B) {
	for _, n := range []int{0, 10, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			snap := state.NewStore(state.Config{}).Apply(benchPolicies(n, state.ScopeNamespace))
			c := Conn{
				Workload: "w", Peer: spiffe.ID{TrustDomain: "td", Namespace: "x", ServiceAccount: "y"},
				Source: netip.MustParseAddrPort("10.0.0.1:1"), Destination: netip.MustParseAddrPort("10.0.0.2:80"),
			}
			Authorize(snap, c)
			b.ReportAllocs()
			for b.Loop() {
				if d := Authorize(snap, c); d.Allowed() != (n == 0) {
					b.Fatal(d)
				}
			}
		})
	}
}

// BenchmarkCompile makes the index of 10,000 policies of 10 rules each.
func BenchmarkCompile(b *testing.B) {
	u := benchPolicies(10_000, state.ScopeNamespace)
	for b.Loop() {
		compileLayer(&state.PolicyLayer{Policies: u.Policies})
	}
}
