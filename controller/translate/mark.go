package translate

import (
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	corev1 "k8s.io/api/core/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/ambit-mesh/ambit/controller/objects"
)

// mark marks every unit that reads o. Apply calls it with the old object while that is still indexed, and with the new one
// once it is. What is forgotten here shows in the oracle test.
func (t *Translator) mark(key objects.Key, o objects.Object) {
	t.markUser(key)
	switch o := o.(type) {
	case *corev1.Namespace:
		t.markSpace(o.Name)
	case *gatewayv1.Gateway:
		t.markGateway(key)
		t.markNetwork(o)
	case *gatewayv1.GatewayClass:
		for gw := range t.in.classed[o.Name] {
			t.markGateway(gw)
			t.markNetwork(get[*gatewayv1.Gateway](&t.in, gw.Kind, gw.Namespace, gw.Name))
		}
	case *gatewayv1.HTTPRoute, *gatewayv1.GRPCRoute:
		t.markParents(key, o)
	case *corev1.Node:
		for pod := range t.in.onNode[o.Name] {
			t.dirty.add(pod)
		}
	case *corev1.Service:
		t.markTargets(key.Namespace, o.Spec.Selector)
		t.markSlices(key)
		t.markClaims(key.Namespace, hostname(t.set, o))
	case *objects.CompactSlice:
		if svc, ok := serviceOfSlice(o); ok {
			if s := get[*corev1.Service](&t.in, svc.Kind, svc.Namespace, svc.Name); s != nil && bySlices(s) {
				t.markPods(o)
			}
		}
	case *networkingv1.ServiceEntry:
		t.markTargets(key.Namespace, o.Spec.GetWorkloadSelector().GetLabels())
		for _, h := range o.Spec.Hosts {
			t.markClaims(key.Namespace, h)
		}
	case *securityv1.AuthorizationPolicy:
		t.markGuards(key, o)
		t.markPolicy(key, selectorOf(o))
	case *securityv1.PeerAuthentication:
		t.markPeerAuthentication(key, selectorOf(o))
	}
}

// markUser marks an object, and what is told its owner's colleagues about it: policies and routes that name it.
func (t *Translator) markUser(key objects.Key) {
	t.dirty.add(key)
	for policy := range t.in.targeted[key] {
		t.dirty.add(policy)
	}
	for route := range t.in.routed[key] {
		t.dirty.add(route)
	}
}

// users calls yield for all that ask for a Gateway as waypoint, themselves or by their namespace.
func (t *Translator) users(gateway objects.Key, yield func(objects.Key)) {
	for key := range t.in.asks[gateway] {
		if key.Kind != objects.Namespace {
			yield(key)
			continue
		}
		for user := range t.in.inSpace[key.Name] {
			yield(user)
		}
	}
}

// markGateway marks who reads a Gateway or its class.
func (t *Translator) markGateway(key objects.Key) {
	t.markUser(key)
	t.users(key, t.markUser)
	for pod := range t.in.instances[key] {
		t.dirty.add(pod)
	}
}

// markParents marks the Gateways that count a route.
func (t *Translator) markParents(key objects.Key, o objects.Object) {
	for _, p := range parentsOf(o) {
		if parent, ok := parentKey(key.Namespace, parentRef(p)); ok && parent.Kind == objects.Gateway {
			t.dirty.add(parent)
		}
	}
}

// markGuards marks the services whose guard a policy with targets may be the reason of.
func (t *Translator) markGuards(key objects.Key, p *securityv1.AuthorizationPolicy) {
	service := func(user objects.Key) {
		if user.Kind == objects.Service || user.Kind == objects.ServiceEntry {
			t.dirty.add(user)
		}
	}
	for _, ref := range targetRefs(p) {
		target, _ := targetKey(key.Namespace, ref)
		switch target.Kind {
		case objects.Gateway:
			t.users(target, service)
		case objects.GatewayClass:
			for gw := range t.in.classed[target.Name] {
				t.users(gw, service)
			}
		default:
			service(target)
		}
	}
}

func (t *Translator) markTargets(namespace string, selector map[string]string) {
	t.in.targets.selected(namespace, selector, t.dirty.add)
}

// markSpace marks everything in a namespace, whose labels give defaults.
func (t *Translator) markSpace(namespace string) {
	for key := range t.in.inSpace[namespace] {
		t.markUser(key)
		switch o := t.in.objs[key].(type) {
		case *gatewayv1.HTTPRoute, *gatewayv1.GRPCRoute:
			t.markParents(key, o)
		case *networkingv1.ServiceEntry:
			for _, h := range o.Spec.Hosts { // the namespace may decide who sees it
				t.markClaims(namespace, h)
			}
		}
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
