package policy

import (
	"strings"

	"github.com/ambit-mesh/ambit/ztunnel/state"
)

// Authorize judges a connection by one snapshot. The package comment lists the rules.
func Authorize(s *state.Snapshot, c Conn) Decision {
	d := Decision{Version: s.Version()}
	if !s.Synced() {
		d.Reason = NotSynced
		return d
	}
	w := s.Workload(c.Workload)
	if w == nil {
		d.Reason = WorkloadUnknown
		return d
	}
	f := factsOf(c)
	v := judge(s.PoliciesOf(w), &f)
	d.Verdict, d.Reason, d.Policy, d.DryRun = v.Verdict, v.Reason, v.Policy, v.DryRun
	return d
}

// judge applies a set of policies.
func judge(set state.PolicySet, f *facts) Decision {
	var layers [3]*compiled
	n := 0
	for _, l := range set.Layers() {
		if l != nil {
			layers[n] = compile(l)
			n++
		}
	}
	on := layers[:n]
	d := enforce(on, f)
	d.DryRun = rehearse(on, f)
	return d
}

// enforce gives the verdict.
func enforce(on []*compiled, f *facts) Decision {
	if p := firstOf(on, enforcedDeny, f); p != nil {
		return Decision{Reason: denial(p.Key, f), Policy: p.Key}
	}
	for _, c := range on {
		if len(c.layer.Missing) > 0 {
			return Decision{Reason: PolicyMissing, Policy: c.layer.Missing[0]}
		}
	}
	for _, c := range on {
		if c.broken != nil {
			return Decision{Reason: PolicyInvalid, Policy: c.broken.Key}
		}
	}
	if !anyOf(on, enforcedAllow) {
		return Decision{Verdict: Allow, Reason: NoPolicy}
	}
	if p := firstOf(on, enforcedAllow, f); p != nil {
		return Decision{Verdict: Allow, Reason: ExplicitAllow, Policy: p.Key}
	}
	return Decision{Reason: NoAllowMatched, Policy: closing(on).Key}
}

// closing is the policy to name when no ALLOW policy matched: there is one, or it would not be a denial. A policy without rules is
// what users write to make denial the default, so it is named first.
func closing(on []*compiled) *state.Policy {
	var found *state.Policy
	for _, c := range on {
		if c.closes != nil && (found == nil || len(found.Rules) > 0 && len(c.closes.Rules) == 0) {
			found = c.closes
		}
	}
	return found
}

// rehearse says what the dry-run policies would have done. None costs nothing.
func rehearse(on []*compiled, f *facts) []Finding {
	var found []Finding
	if p := firstOf(on, dryRunDeny, f); p != nil {
		found = append(found, Finding{Verdict: Deny, Policy: p.Key})
	}
	if !anyOf(on, dryRunAllow) {
		return found
	}
	if p := firstOf(on, dryRunAllow, f); p != nil {
		return append(found, Finding{Verdict: Allow, Policy: p.Key})
	}
	return append(found, Finding{Verdict: Deny})
}

func firstOf(on []*compiled, g group, f *facts) *state.Policy {
	for _, c := range on {
		if p := c.first(g, f); p != nil {
			return p
		}
	}
	return nil
}

func anyOf(on []*compiled, g group) bool {
	for _, c := range on {
		if c.present[g] {
			return true
		}
	}
	return false
}

// Names that the control plane gives to what it makes of PeerAuthentication (ztunnel.md 5.5).
const (
	staticStrict    = "istio_converted_static_strict"
	convertedPrefix = "converted_peer_authentication_"
)

// denial is the reason a matching DENY policy gives.
func denial(k state.Key, f *facts) Reason {
	if !f.authenticated && (k.Name == staticStrict || strings.HasPrefix(k.Name, convertedPrefix)) {
		return MTLSRequired
	}
	return ExplicitDeny
}
