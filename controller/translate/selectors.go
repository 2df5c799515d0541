package translate

import (
	"maps"
	"slices"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/ambit-mesh/ambit/controller/objects"
)

// targetLabels are the labels by which selectors find o; nil for objects that are no targets.
func targetLabels(o objects.Object) map[string]string {
	switch o := o.(type) {
	case *objects.CompactPod:
		return o.Labels
	case *networkingv1.ServiceEntry: // stands for its inline endpoints
		return o.Labels
	case *networkingv1.WorkloadEntry:
		return entryLabels(o)
	default:
		return nil
	}
}

// entryLabels are a WorkloadEntry's: those of its spec win.
func entryLabels(o *networkingv1.WorkloadEntry) map[string]string {
	labels := make(map[string]string, len(o.Labels)+len(o.Spec.Labels))
	maps.Copy(labels, o.Labels)
	maps.Copy(labels, o.Spec.Labels)
	return labels
}

// selectorOf is the selector of o. An empty one selects nothing in a Service or ServiceEntry, and is none in a policy.
func selectorOf(o objects.Object) map[string]string {
	switch o := o.(type) {
	case *corev1.Service:
		return o.Spec.Selector
	case *networkingv1.ServiceEntry:
		return o.Spec.GetWorkloadSelector().GetLabels()
	case *securityv1.AuthorizationPolicy:
		return o.Spec.GetSelector().GetMatchLabels()
	case *securityv1.PeerAuthentication:
		return o.Spec.GetSelector().GetMatchLabels()
	default:
		return nil
	}
}

// firstPair is the label under which a selector is indexed.
func firstPair(namespace string, selector map[string]string) (pair, bool) {
	if len(selector) == 0 {
		return pair{}, false
	}
	key := slices.Min(slices.Collect(maps.Keys(selector)))
	return pair{namespace, key, selector[key]}, true
}

func matches(selector, labels map[string]string) bool {
	for k, v := range selector {
		if got, ok := labels[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// selectedBy lists, in order, the owners of kind in namespace whose selector matches labels.
func (in *inputs) selectedBy(kind objects.Kind, namespace string, labels map[string]string) []objects.Key {
	var out []objects.Key
	for k, v := range labels {
		for key := range in.selecting[pair{namespace, k, v}] {
			if key.Kind == kind && matches(selectorOf(in.objs[key]), labels) {
				out = append(out, key)
			}
		}
	}
	slices.SortFunc(out, objects.Key.Compare)
	return out
}

// isTarget reports kinds that policies apply to.
func isTarget(k objects.Kind) bool {
	return k == objects.Pod || k == objects.WorkloadEntry || k == objects.ServiceEntry
}
