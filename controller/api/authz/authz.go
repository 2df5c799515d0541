// Package authz is the authorization policy schema: generated protobufs of package istio.security.
//
// It answers what travels; ztunnel/policy decides with it and controller/translate makes it. Field numbers are Istio's.
// Messages are safe to read concurrently, not to change.
package authz

// TypeURL names authorization policies in xDS.
const TypeURL = "type.googleapis.com/istio.security.Authorization"
