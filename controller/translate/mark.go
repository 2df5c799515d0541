package translate

import (
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/ambit-mesh/ambit/controller/objects"
)

// mark marks every unit that reads o. Apply calls it with the old object while that is still indexed, and with the new one
// once it is. What is forgotten here shows in the oracle test.
func (t *Translator) mark(key objects.Key, o objects.Object) {
	t.dirty.add(key)
	for policy := range t.in.targeted[key] {
		t.dirty.add(policy)
	}
	switch o := o.(type) {
	case *corev1.Namespace:
		t.markSpace(o.Name)
	case *corev1.Node:
		for pod := range t.in.onNode[o.Name] {
			t.dirty.add(pod)
		}
	case *corev1.Service:
		t.markTargets(key.Namespace, o.Spec.Selector)
		t.markSlices(key)
		t.markClaims(hostname(t.set, o))
	case *objects.CompactSlice:
		if svc, ok := serviceOfSlice(o); ok {
			if s := get[*corev1.Service](&t.in, svc.Kind, svc.Namespace, svc.Name); s != nil && bySlices(s) {
				t.markPods(o)
			}
		}
	case *networkingv1.ServiceEntry:
		t.markTargets(key.Namespace, o.Spec.GetWorkloadSelector().GetLabels())
		for _, h := range o.Spec.Hosts {
			t.markClaims(h)
		}
	case *securityv1.AuthorizationPolicy:
		t.markPolicy(key, selectorOf(o))
	case *securityv1.PeerAuthentication:
		t.markPeerAuthentication(key, selectorOf(o))
	}
	if key.Kind == objects.Gateway {
		for user := range t.in.bound[key] {
			t.dirty.add(user)
		}
	}
}

func (t *Translator) markTargets(namespace string, selector map[string]string) {
	t.in.targets.selected(namespace, selector, t.dirty.add)
}

// markSpace marks everything in a namespace, whose labels give defaults.
func (t *Translator) markSpace(namespace string) {
	for key := range t.in.inSpace[namespace] {
		t.dirty.add(key)
	}
}

// markSlices marks what stands behind a service through its EndpointSlices.
func (t *Translator) markSlices(service objects.Key) {
	for key := range t.in.sliceOf[service] {
		t.dirty.add(key)
		slice, ok := t.in.objs[key].(*objects.CompactSlice)
		if !ok {
			continue
		}
		t.markPods(slice)
	}
}

func (t *Translator) markPods(slice *objects.CompactSlice) {
	for i := range slice.Endpoints {
		if pod, ok := podOfEndpoint(slice, &slice.Endpoints[i]); ok {
			t.dirty.add(pod)
		}
	}
}

// markClaims marks all who claim a host name, and the workloads behind them: who of them wins may have changed.
func (t *Translator) markClaims(host string) {
	for key := range t.in.claims[host] {
		t.dirty.add(key)
		if se, ok := t.in.objs[key].(*networkingv1.ServiceEntry); ok {
			t.markTargets(key.Namespace, se.Spec.GetWorkloadSelector().GetLabels())
		}
	}
}

// markPolicy marks the workloads that name a policy. Policies without a selector are named by none.
func (t *Translator) markPolicy(key objects.Key, selector map[string]string) {
	if len(selector) == 0 {
		return
	}
	namespace := key.Namespace
	if namespace == t.set.RootNamespace {
		namespace = "" // all
	}
	t.markTargets(namespace, selector)
}

func (t *Translator) markPeerAuthentication(key objects.Key, selector map[string]string) {
	t.dirty.add(staticStrictUnit)
	switch {
	case len(selector) > 0:
		t.markTargets(key.Namespace, selector)
	case key.Namespace == t.set.RootNamespace:
		for other := range t.in.objs {
			if isTarget(other.Kind) || other.Kind == objects.PeerAuthentication {
				t.dirty.add(other)
			}
		}
	default:
		for other := range t.in.inSpace[key.Namespace] {
			t.dirty.add(other)
		}
	}
}
