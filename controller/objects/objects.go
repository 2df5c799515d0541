// Package objects names what the controller reads and writes: Kubernetes objects of the kinds that concern the mesh, their
// keys, their changes, and the conditions it answers with.
//
// It is data only. Sources make changes, translate turns them into resources and conditions, status writers store the
// conditions. Objects are read-only once they are in a Change; keys and conditions are values.
package objects

import (
	"cmp"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Object is a typed Kubernetes object.
type Object interface {
	metav1.Object
	runtime.Object
}

// Kind is the kind of an object, whatever version it was written in.
type Kind string

// The kinds the controller translates or keeps.
const (
	Namespace           Kind = "Namespace"
	Node                Kind = "Node"
	Pod                 Kind = "Pod"
	Service             Kind = "Service"
	ServiceAccount      Kind = "ServiceAccount"
	EndpointSlice       Kind = "EndpointSlice"
	ServiceEntry        Kind = "ServiceEntry"
	WorkloadEntry       Kind = "WorkloadEntry"
	PeerAuthentication  Kind = "PeerAuthentication"
	AuthorizationPolicy Kind = "AuthorizationPolicy"
	VirtualService      Kind = "VirtualService"
	DestinationRule     Kind = "DestinationRule"
	Gateway             Kind = "Gateway"
	GatewayClass        Kind = "GatewayClass"
	HTTPRoute           Kind = "HTTPRoute"
	GRPCRoute           Kind = "GRPCRoute"
	// ConfigMap is one object only, which sources deliver alone: MeshConfigName in the root namespace.
	ConfigMap Kind = "ConfigMap"
)

// MeshConfigName is the ConfigMap that holds MeshConfig, and MeshConfigKey where in it, as in Istio.
const (
	MeshConfigName = "istio"
	MeshConfigKey  = "mesh"
)

// Key identifies an object. Namespace is empty for cluster-scoped kinds.
type Key struct {
	Kind      Kind
	Namespace string
	Name      string
}

// String is Kind/namespace/name, or Kind/name for cluster-scoped kinds.
func (k Key) String() string {
	if k.Namespace == "" {
		return string(k.Kind) + "/" + k.Name
	}
	return string(k.Kind) + "/" + k.Namespace + "/" + k.Name
}

// Compare orders keys by kind, namespace and name.
func (k Key) Compare(o Key) int {
	return cmp.Or(strings.Compare(string(k.Kind), string(o.Kind)), strings.Compare(k.Namespace, o.Namespace), strings.Compare(k.Name, o.Name))
}

// Change is one object as it is now. A nil Object means that it is gone.
type Change struct {
	Key    Key
	Object Object
}
