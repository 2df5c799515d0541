package manifest

import (
	"fmt"
	"strings"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/ambit-mesh/ambit/controller/objects"
)

// newObject is an empty object to decode into. known is false for kinds nobody has heard of, which is a mistake in the
// manifest; a known kind without an object does not concern the mesh.
func newObject(apiVersion, kind string) (obj objects.Object, known bool) {
	group, version, _ := strings.Cut(apiVersion, "/")
	if version == "" {
		group, version = "", apiVersion
	}
	switch {
	case group == "" && version == "v1":
		return coreObject(kind)
	case group == "discovery.k8s.io" && version == "v1" && kind == "EndpointSlice":
		return &discoveryv1.EndpointSlice{}, true
	case group == "security.istio.io" && (version == "v1" || version == "v1beta1"):
		return securityObject(kind)
	case group == "networking.istio.io" && (version == "v1" || version == "v1beta1" || version == "v1alpha3"):
		return networkingObject(kind)
	case group == "gateway.networking.k8s.io" && (version == "v1" || version == "v1beta1"):
		return gatewayObject(kind)
	default:
		return nil, ignoredGroup(group)
	}
}

func coreObject(kind string) (objects.Object, bool) {
	switch kind {
	case "Namespace":
		return &corev1.Namespace{}, true
	case "Node":
		return &corev1.Node{}, true
	case "Pod":
		return &corev1.Pod{}, true
	case "Service":
		return &corev1.Service{}, true
	case "ServiceAccount":
		return &corev1.ServiceAccount{}, true
	case "ConfigMap": // decodeObject lets the mesh's only pass
		return &corev1.ConfigMap{}, true
	case "Secret", "Endpoints", "Event", "LimitRange", "PersistentVolume", "PersistentVolumeClaim",
		"PodTemplate", "ReplicationController", "ResourceQuota":
		return nil, true
	default:
		return nil, false
	}
}

func securityObject(kind string) (objects.Object, bool) {
	switch kind {
	case "PeerAuthentication":
		return &securityv1.PeerAuthentication{}, true
	case "AuthorizationPolicy":
		return &securityv1.AuthorizationPolicy{}, true
	default:
		return nil, kind == "RequestAuthentication"
	}
}

func networkingObject(kind string) (objects.Object, bool) {
	switch kind {
	case "ServiceEntry":
		return &networkingv1.ServiceEntry{}, true
	case "WorkloadEntry":
		return &networkingv1.WorkloadEntry{}, true
	case "VirtualService":
		return &networkingv1.VirtualService{}, true
	case "DestinationRule":
		return &networkingv1.DestinationRule{}, true
	default:
		return nil, kind == "Gateway" || kind == "Sidecar" || kind == "EnvoyFilter" || kind == "WorkloadGroup" || kind == "ProxyConfig"
	}
}

func gatewayObject(kind string) (objects.Object, bool) {
	switch kind {
	case "Gateway":
		return &gatewayv1.Gateway{}, true
	case "GatewayClass":
		return &gatewayv1.GatewayClass{}, true
	case "HTTPRoute":
		return &gatewayv1.HTTPRoute{}, true
	case "GRPCRoute":
		return &gatewayv1.GRPCRoute{}, true
	default:
		return nil, kind == "TCPRoute" || kind == "TLSRoute" || kind == "ReferenceGrant"
	}
}

// ignoredGroup names API groups whose objects users keep beside those of the mesh.
func ignoredGroup(group string) bool {
	switch group {
	case "apps", "batch", "autoscaling", "policy", "networking.k8s.io", "rbac.authorization.k8s.io", "storage.k8s.io",
		"scheduling.k8s.io", "coordination.k8s.io", "apiextensions.k8s.io", "admissionregistration.k8s.io":
		return true
	default:
		return false
	}
}

// kindOf is the kind of an object made by newObject.
func kindOf(o objects.Object) objects.Kind {
	switch o.(type) {
	case *corev1.Namespace:
		return objects.Namespace
	case *corev1.Node:
		return objects.Node
	case *corev1.Pod:
		return objects.Pod
	case *corev1.Service:
		return objects.Service
	case *corev1.ServiceAccount:
		return objects.ServiceAccount
	case *discoveryv1.EndpointSlice:
		return objects.EndpointSlice
	case *networkingv1.ServiceEntry:
		return objects.ServiceEntry
	case *networkingv1.WorkloadEntry:
		return objects.WorkloadEntry
	case *networkingv1.VirtualService:
		return objects.VirtualService
	case *networkingv1.DestinationRule:
		return objects.DestinationRule
	case *securityv1.PeerAuthentication:
		return objects.PeerAuthentication
	case *securityv1.AuthorizationPolicy:
		return objects.AuthorizationPolicy
	case *gatewayv1.Gateway:
		return objects.Gateway
	case *gatewayv1.GatewayClass:
		return objects.GatewayClass
	case *gatewayv1.HTTPRoute:
		return objects.HTTPRoute
	case *gatewayv1.GRPCRoute:
		return objects.GRPCRoute
	case *corev1.ConfigMap:
		return objects.ConfigMap
	default:
		panic(fmt.Sprintf("manifest: no kind for %T", o)) // newObject made it
	}
}

// clusterScoped reports kinds without a namespace.
func clusterScoped(kind string) bool {
	return kind == "Namespace" || kind == "Node" || kind == "GatewayClass"
}
