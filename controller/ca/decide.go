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
}

// Reason is why a certificate was refused. The set is the label of the metric.
type Reason string

// The reasons.
const (
	ReasonUnauthenticated Reason = "unauthenticated"    // no token, or none that verifies
	ReasonMalformed       Reason = "malformed_identity" // what was asked for is no identity
	ReasonNotTrusted      Reason = "not_a_node_account" // the caller may not ask for others
	ReasonNoNode          Reason = "no_node"            // the caller's token does not say where it runs
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
	if caller.Node == "" {
		return spiffe.ID{}, refuse(ReasonNoNode, "the token of %s is not bound to a node", caller.Account())
	}
	if id.TrustDomain != trustDomain {
		return spiffe.ID{}, refuse(ReasonTrustDomain, "trust domain of %s: this mesh is %s", id, trustDomain)
	}
	if !residents.Runs(caller.Node, id.Namespace, id.ServiceAccount) {
		return spiffe.ID{}, refuse(ReasonNotResident, "no pod with identity %s runs on node %s", id, caller.Node)
	}
	return id, nil
}
