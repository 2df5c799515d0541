// Package api is the border between the controller and the nodes: the protobufs of its subpackages and SPIFFE ids.
//
// It does nothing itself. workload holds what a node must know of pods and services, authz the authorization policies,
// ca the certificate service, spiffe identities. They are Istio's wire contract, so names and numbers never change.
// Anyone may import them. Generated messages are safe to read concurrently, not to change.
package api

//go:generate ./generate.sh
