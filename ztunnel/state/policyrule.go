package state

import "net/netip"

// PolicyScope says to which workloads a policy applies, with the numbers of the wire.
type PolicyScope uint8

// The scopes.
const (
	ScopeGlobal    PolicyScope = iota // every workload of the mesh
	ScopeNamespace                    // every workload of the policy's namespace
	ScopeSelector                     // workloads that name the policy
)

// Action is what a matching policy does. The zero value denies; the wire counts the other way round.
type Action uint8

// The actions.
const (
	Deny Action = iota
	Allow
)

// Policy is one authorization policy. It matches if any rule matches.
type Policy struct {
	Key    Key
	Scope  PolicyScope
	Action Action
	Rules  []Rule
	DryRun bool   // evaluated and reported, never enforced
	Broken string // why the policy cannot be enforced (it did not parse); "" for a good one
}

// Rule matches if all its clauses match; one without clauses always matches.
type Rule struct{ Clauses []Clause }

// Clause matches if any of its matches does; one without matches always matches.
type Clause struct{ Matches []Match }

// Match is satisfied when every pair of fields is: (no positives, or one of them hits) and no negative hits. An empty
// Match is never satisfied.
type Match struct {
	// Never says that the Match has something this version does not know, and so must not be satisfied.
	Never bool

	Namespaces, NotNamespaces             []StringMatch // of the peer; "" without identity
	Principals, NotPrincipals             []StringMatch // peer's SPIFFE id without its scheme
	ServiceAccounts, NotServiceAccounts   []AccountMatch
	SourceIPs, NotSourceIPs               []netip.Prefix // masked
	DestinationIPs, NotDestinationIPs     []netip.Prefix // masked
	DestinationPorts, NotDestinationPorts []uint16       // of the workload, not of the service
}

// AccountMatch names a service account in any trust domain.
type AccountMatch struct{ Namespace, ServiceAccount string }

// StringOp is how a StringMatch compares: bytes, case-sensitive.
type StringOp uint8

// The comparisons. The zero value matches nothing.
const (
	OpNever StringOp = iota
	OpExact
	OpPrefix
	OpSuffix
	OpPresence // any non-empty string
)

// StringMatch is one pattern.
type StringMatch struct {
	Op    StringOp
	Value string
}
