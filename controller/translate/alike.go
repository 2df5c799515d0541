package translate

import (
	"maps"
	"reflect"
	"slices"

	"google.golang.org/protobuf/proto"
	networkingapi "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	corev1 "k8s.io/api/core/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/ambit-mesh/ambit/controller/objects"
)

// alike reports two versions of an object of which no unit but the object's own can read a difference, and no index either. It
// is so where only a status changed, as with every condition that is written: without this, what is said of a Gateway
// would make all the workloads behind it anew. In doubt it says no. Kinds that nobody but their own unit reads need no place here.
func alike(old, now objects.Object) bool {
	x, y := old.GetCreationTimestamp(), now.GetCreationTimestamp()
	if !x.Equal(&y) || !maps.Equal(old.GetLabels(), now.GetLabels()) || !maps.Equal(old.GetAnnotations(), now.GetAnnotations()) {
		return false
	}
	switch a := old.(type) {
	case *corev1.Namespace, *corev1.Node:
		return true
	case *corev1.Service:
		b, ok := now.(*corev1.Service)
		return ok && reflect.DeepEqual(a.Spec, b.Spec)
	case *gatewayv1.Gateway:
		b, ok := now.(*gatewayv1.Gateway)
		return ok && reflect.DeepEqual(a.Spec, b.Spec) && reflect.DeepEqual(a.Status.Addresses, b.Status.Addresses)
	case *gatewayv1.GatewayClass:
		b, ok := now.(*gatewayv1.GatewayClass)
		return ok && reflect.DeepEqual(a.Spec, b.Spec)
	case *gatewayv1.HTTPRoute:
		b, ok := now.(*gatewayv1.HTTPRoute)
		return ok && reflect.DeepEqual(a.Spec.ParentRefs, b.Spec.ParentRefs)
	case *gatewayv1.GRPCRoute:
		b, ok := now.(*gatewayv1.GRPCRoute)
		return ok && reflect.DeepEqual(a.Spec.ParentRefs, b.Spec.ParentRefs)
	case *securityv1.AuthorizationPolicy:
		b, ok := now.(*securityv1.AuthorizationPolicy)
		return ok && proto.Equal(&a.Spec, &b.Spec)
	case *securityv1.PeerAuthentication:
		b, ok := now.(*securityv1.PeerAuthentication)
		return ok && proto.Equal(&a.Spec, &b.Spec)
	case *networkingv1.ServiceEntry:
		b, ok := now.(*networkingv1.ServiceEntry)
		return ok && proto.Equal(&a.Spec, &b.Spec) && slices.EqualFunc(a.Status.Addresses, b.Status.Addresses, sameAddress)
	default:
		return false
	}
}

func sameAddress(a, b *networkingapi.ServiceEntryAddress) bool { return proto.Equal(a, b) }
