package ca

import (
	"fmt"
	"slices"

	"github.com/ambit-mesh/ambit/controller/api/spiffe"
	"github.com/ambit-mesh/ambit/controller/auth"
)

// Residents answers which identities live where. It is safe for concurrent use.
type Residents interface {
	// Runs reports whether a pod of that service account, not ended, is assigned to the node.
	Runs(node, namespace, serviceAccount string) bool
	// Proxy is the node on which a pod of one of the node accounts runs that is known by this name and uid and has not ended;
	// ok is false if there is none, or if it is of another service account.
	Proxy(namespace, serviceAccount, pod, uid string) (node string, ok bool)
}

// Reason is why a certificate was refused. The set is the label of the metric.
type Reason string

// The reasons.
const (
	ReasonUnauthenticated Reason = "unauthenticated"    // no token, or none that verifies
	ReasonUnchecked       Reason = "unchecked"          // nobody can check the token now
	ReasonTooMany         Reason = "too_many_calls"     // at once, of one caller
	ReasonMalformed       Reason = "malformed_identity" // what was asked for is no identity
	ReasonNotTrusted      Reason = "not_a_node_account" // the caller may not ask for others
	ReasonNoPod           Reason = "no_pod"             // the caller did not show a token that is bound to a pod
	ReasonNoNode          Reason = "no_node"            // the caller's pod has no node yet
	ReasonCallerGone      Reason = "caller_gone"        // the caller's pod is not there, has ended, or is another by that name
	ReasonCallerElsewhere Reason = "caller_elsewhere"   // the caller's token names a node that its pod does not run on
	ReasonTrustDomain     Reason = "trust_domain"       // of another mesh
	ReasonNotResident     Reason = "not_on_node"        // nothing with that identity runs there
	ReasonBadCSR          Reason = "bad_csr"
	ReasonBadTTL          Reason = "bad_ttl"
	ReasonSigning         Reason = "signing"
)

// refusal is a denial with its explanation.
type refusal struct {
	reason Reason
	text   string
}

func (r *refusal) Error() string { return r.text }

func refuse(reason Reason, format string, args ...any) *refusal {
	return &refusal{reason, fmt.Sprintf(format, args...)}
}

// decide answers who the certificate may be for: the caller itself, or the identity that it asks for on behalf of a pod on its
// own node. impersonated is the request's text, "" for none.
func decide(caller auth.Caller, impersonated, trustDomain string, nodeAccounts []string, residents Residents) (spiffe.ID, *refusal) {
	if impersonated == "" {
		id := spiffe.ID{TrustDomain: trustDomain, Namespace: caller.Namespace, ServiceAccount: caller.ServiceAccount}
		if err := id.Validate(); err != nil {
			return spiffe.ID{}, refuse(ReasonMalformed, "caller's identity: %v", err)
		}
		return id, nil
	}
	id, err := spiffe.Parse(impersonated)
	if err != nil {
		return spiffe.ID{}, refuse(ReasonMalformed, "impersonated identity: %v", err)
	}
	if !slices.Contains(nodeAccounts, caller.Account()) {
		return spiffe.ID{}, refuse(ReasonNotTrusted, "%s may not ask for other identities", caller.Account())
	}
	if id.TrustDomain != trustDomain {
		return spiffe.ID{}, refuse(ReasonTrustDomain, "trust domain of %s: this mesh is %s", id, trustDomain)
	}
	node, no := callerNode(caller, residents)
	if no != nil {
		return spiffe.ID{}, no
	}
	if !residents.Runs(node, id.Namespace, id.ServiceAccount) {
		return spiffe.ID{}, refuse(ReasonNotResident, "no pod with identity %s runs on node %s", id, node)
	}
	return id, nil
}

// callerNode is where the caller's own pod runs. A token outlives its pod and can be copied: it is worth only as much as the
// pod that it was made for.
func callerNode(caller auth.Caller, residents Residents) (string, *refusal) {
	if caller.Pod == "" || caller.PodUID == "" {
		return "", refuse(ReasonNoPod, "%s has shown no token that is bound to a pod", caller.Account())
	}
	node, ok := residents.Proxy(caller.Namespace, caller.ServiceAccount, caller.Pod, caller.PodUID)
	switch {
	case !ok:
		return "", refuse(ReasonCallerGone, "the token of %s is bound to pod %s with uid %s, which does not run", caller.Account(), caller.Pod, caller.PodUID)
	case node == "":
		return "", refuse(ReasonNoNode, "pod %s/%s is not bound to a node", caller.Namespace, caller.Pod)
	case caller.Node != "" && caller.Node != node:
		return "", refuse(ReasonCallerElsewhere, "the token of %s names node %s; its pod %s runs on %s", caller.Account(), caller.Node, caller.Pod, node)
	}
	return node, nil
}
