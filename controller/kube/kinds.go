package kube

import (
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/ambit-mesh/ambit/controller/objects"
)

// kind says how objects of one kind are had.
type kind struct {
	name     objects.Kind
	resource schema.GroupVersionResource
	// list is Kubernetes' kind, for decoding.
	gvk schema.GroupVersionKind
	// empty makes an object of a custom resource to decode into; nil for Kubernetes' own kinds.
	empty func() objects.Object
	// shell makes the object of kinds of which the metadata is all that is asked for; nil for the others.
	shell func(metav1.ObjectMeta) objects.Object
	// conditions says that the mesh keeps conditions on such objects.
	conditions bool
	// guards says that without such an object more is allowed than with it.
	guards bool
	// namespace and object narrow the watch.
	namespace, object string
}

// custom reports a kind that is there only if someone installed its CustomResourceDefinition.
func (k kind) custom() bool { return k.empty != nil }

func group(g, v, plural, name string) (schema.GroupVersionResource, schema.GroupVersionKind) {
	return schema.GroupVersionResource{Group: g, Version: v, Resource: plural}, schema.GroupVersionKind{Group: g, Version: v, Kind: name}
}

func core(name objects.Kind, g, plural string) kind {
	k := kind{name: name}
	k.resource, k.gvk = group(g, "v1", plural, string(name))
	return k
}

func custom(name objects.Kind, g, plural string, empty func() objects.Object) kind {
	k := core(name, g, plural)
	k.empty, k.conditions = empty, true
	return k
}

func metadataOnly(k kind, shell func(metav1.ObjectMeta) objects.Object) kind {
	k.shell = shell
	return k
}

func withConditions(k kind) kind {
	k.conditions = true
	return k
}

func guarding(k kind) kind {
	k.guards = true
	return k
}

// kinds are those of package objects. Nodes, namespaces and service accounts are read for their metadata only: a node's status alone
// is tens of kilobytes, and changes every few minutes.
func kinds(rootNamespace string) []kind {
	const gateway, networking, security = "gateway.networking.k8s.io", "networking.istio.io", "security.istio.io"
	meshConfig := core(objects.ConfigMap, "", "configmaps")
	meshConfig.namespace, meshConfig.object = rootNamespace, objects.MeshConfigName
	return []kind{
		metadataOnly(core(objects.Namespace, "", "namespaces"), func(m metav1.ObjectMeta) objects.Object { return &corev1.Namespace{ObjectMeta: m} }),
		metadataOnly(core(objects.Node, "", "nodes"), func(m metav1.ObjectMeta) objects.Object { return &corev1.Node{ObjectMeta: m} }),
		metadataOnly(core(objects.ServiceAccount, "", "serviceaccounts"), func(m metav1.ObjectMeta) objects.Object { return &corev1.ServiceAccount{ObjectMeta: m} }),
		core(objects.Pod, "", "pods"),
		withConditions(core(objects.Service, "", "services")),
		core(objects.EndpointSlice, "discovery.k8s.io", "endpointslices"),
		custom(objects.ServiceEntry, networking, "serviceentries", func() objects.Object { return &networkingv1.ServiceEntry{} }),
		custom(objects.WorkloadEntry, networking, "workloadentries", func() objects.Object { return &networkingv1.WorkloadEntry{} }),
		custom(objects.VirtualService, networking, "virtualservices", func() objects.Object { return &networkingv1.VirtualService{} }),
		custom(objects.DestinationRule, networking, "destinationrules", func() objects.Object { return &networkingv1.DestinationRule{} }),
		guarding(custom(objects.PeerAuthentication, security, "peerauthentications", func() objects.Object { return &securityv1.PeerAuthentication{} })),
		guarding(custom(objects.AuthorizationPolicy, security, "authorizationpolicies", func() objects.Object { return &securityv1.AuthorizationPolicy{} })),
		custom(objects.Gateway, gateway, "gateways", func() objects.Object { return &gatewayv1.Gateway{} }),
		custom(objects.HTTPRoute, gateway, "httproutes", func() objects.Object { return &gatewayv1.HTTPRoute{} }),
		custom(objects.GRPCRoute, gateway, "grpcroutes", func() objects.Object { return &gatewayv1.GRPCRoute{} }),
		custom(objects.GatewayClass, gateway, "gatewayclasses", func() objects.Object { return &gatewayv1.GatewayClass{} }),
		meshConfig,
	}
}
