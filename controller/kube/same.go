package kube

import (
	"maps"
	"reflect"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/ambit-mesh/ambit/controller/objects"
)

// unchanged reports that two trimmed versions of an object say the same. In doubt it says no: then translate finds that nothing
// comes of the change. It keeps the frequent ones away from there: heartbeats of nodes, counters in a pod's status, our
// own conditions.
func unchanged(before, after objects.Object) bool {
	if before == after {
		return true
	}
	if before.GetUID() != after.GetUID() || !maps.Equal(before.GetLabels(), after.GetLabels()) || !maps.Equal(before.GetAnnotations(), after.GetAnnotations()) ||
		(before.GetDeletionTimestamp() == nil) != (after.GetDeletionTimestamp() == nil) {
		return false
	}
	switch a := after.(type) {
	case *corev1.Namespace, *corev1.Node, *corev1.ServiceAccount:
		return true
	case *corev1.Service:
		b, ok := before.(*corev1.Service)
		return ok && reflect.DeepEqual(b.Spec, a.Spec)
	case *objects.CompactPod:
		b, ok := before.(*objects.CompactPod)
		return ok && b.NodeName == a.NodeName && b.ServiceAccountName == a.ServiceAccountName && b.Phase == a.Phase && b.Owner == a.Owner &&
			b.HostNetwork == a.HostNetwork && b.Ready == a.Ready && slices.Equal(b.IPs, a.IPs) && slices.Equal(b.Ports, a.Ports)
	case *objects.CompactSlice:
		b, ok := before.(*objects.CompactSlice)
		return ok && b.AddressType == a.AddressType && slices.Equal(b.Ports, a.Ports) && reflect.DeepEqual(b.Endpoints, a.Endpoints)
	default:
		return false
	}
}
