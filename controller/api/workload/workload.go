// Package workload is the workload discovery schema: generated protobufs of package istio.workload.
//
// It answers what travels, not what it means to a node (ztunnel/state) or how it comes about (controller/translate).
// Field numbers are Istio's. Messages are safe to read concurrently, not to change.
package workload

// AddressTypeURL names the resources of workload discovery in xDS.
const AddressTypeURL = "type.googleapis.com/istio.workload.Address"
