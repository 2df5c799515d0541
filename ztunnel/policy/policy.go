// Package policy answers whether a connection to a workload of this node may exist: Authorize(snapshot, Conn) Decision.
//
// It is pure: no I/O, clock, lock that a caller could wait on, or logger. It finds no workloads by address and chooses
// no route. The inbound shell asks it for each connection, and again for live ones when policy changes; `ambit why`
// replays dumps through it. All of it may be called from any goroutine.
//
// The rules, in the order they are applied (each row has scenarios in testdata):
//
//	#  situation                                         verdict  reason
//	1  no first full synchronisation yet                 deny     NotSynced           (pending)
//	2  the destination workload is not known             deny     WorkloadUnknown     (pending)
//	3  an enforced DENY policy matches                   deny     ExplicitDeny, or MTLSRequired where the policy is the
//	                                                              control plane's translation of STRICT
//	4  a policy the workload names has not arrived       deny     PolicyMissing       (pending)
//	5  a policy that applies could not be parsed         deny     PolicyInvalid       (pending)
//	6  no enforced ALLOW policy applies                  allow    NoPolicy
//	7  an enforced ALLOW policy matches                  allow    ExplicitAllow
//	8  otherwise                                         deny     NoAllowMatched
//
// A decision names the policy that settled it. In row 8 that is the one that makes denial the default: an ALLOW policy without
// rules if there is one, else the first ALLOW policy that applies.
//
// Pending denials may turn into something else soon: a shell lets new connections wait a little and asks again, and
// does not close live ones at once.
package policy

import (
	"net/netip"

	"github.com/ambit-mesh/ambit/controller/api/spiffe"
	"github.com/ambit-mesh/ambit/ztunnel/state"
)

// Conn is what a connection presents to the workload it wants.
type Conn struct {
	// Workload is the UID of the destination workload. It is looked up again at each judgement, so that a live
	// connection is judged by the policies attached now.
	Workload string
	// Peer is the verified identity of the other side; zero for plain text.
	Peer spiffe.ID
	// Source is the TCP peer. Never taken from a header.
	Source netip.AddrPort
	// Destination is the workload's address and the port after resolution: the port the application listens on. For
	// plain text it is the original destination.
	Destination netip.AddrPort
}

// Verdict is the answer. The zero value denies.
type Verdict uint8

// The verdicts.
const (
	Deny Verdict = iota
	Allow
)

// String is "deny" or "allow".
func (v Verdict) String() string {
	if v == Allow {
		return "allow"
	}
	return "deny"
}

// Finding is what a dry-run policy would have done.
type Finding struct {
	// Verdict is what enforcing the dry-run policies would mean: Deny by a DENY policy, Allow by an ALLOW policy, or
	// Deny with a zero Policy where dry-run ALLOW policies apply and none matched.
	Verdict Verdict
	Policy  state.Key
}

// Decision is the answer and its explanation. A denial is not an error. The zero value denies.
type Decision struct {
	Verdict Verdict
	Reason  Reason
	Policy  state.Key // the policy that settled it, or made denial the default; zero if none did
	DryRun  []Finding // what dry-run policies would have done
	Version uint64    // of the snapshot it was made from
}

// Allowed reports whether the connection may exist.
func (d Decision) Allowed() bool { return d.Verdict == Allow }
