// Package ca is the certificate service's schema: generated protobufs and gRPC stubs of package istio.v1.auth.
//
// It answers what travels; controller/ca signs and ztunnel/cert asks. Field numbers are Istio's. Messages are safe to
// read concurrently, not to change.
package ca

// ImpersonatedIdentity is the metadata key under which a node asks for the certificate of one of its pods; its value is a
// SPIFFE id.
const ImpersonatedIdentity = "ImpersonatedIdentity"
