package translate

import (
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	corev1 "k8s.io/api/core/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/ambit-mesh/ambit/controller/objects"
)

type set[K comparable] map[K]struct{}

func (s set[K]) add(k K)      { s[k] = struct{}{} }
func (s set[K]) has(k K) bool { _, ok := s[k]; return ok }

// multi is a map of sets; empty sets are not kept.
type multi[K, V comparable] map[K]set[V]

func (m multi[K, V]) put(k K, v V) {
	s := m[k]
	if s == nil {
		s = set[V]{}
		m[k] = s
	}
	s.add(v)
}

func (m multi[K, V]) drop(k K, v V) {
	s := m[k]
	delete(s, v)
	if len(s) == 0 {
		delete(m, k)
	}
}

// pair is one label within a namespace.
type pair struct{ namespace, key, value string }

// inputs are the objects and the ways to find them without looking at all.
type inputs struct {
	objs      map[objects.Key]objects.Object
	inSpace   multi[string, objects.Key]      // by namespace
	onNode    multi[string, objects.Key]      // pods by node
	targets   groups                          // by their labels
	selecting multi[pair, objects.Key]        // owners of a selector by one of its labels
	spaceWide multi[string, objects.Key]      // PeerAuthentications without a selector, by namespace
	peerAuths set[objects.Key]                // all PeerAuthentications
	sliceOf   multi[objects.Key, objects.Key] // EndpointSlices by service
	slicePod  multi[objects.Key, objects.Key] // EndpointSlices by pod, of services that have no selector
	targeted  multi[objects.Key, objects.Key] // AuthorizationPolicies by what they name as target
	claims    claims                          // Services and ServiceEntries by host name
	asks      multi[objects.Key, objects.Key] // whatever names a Gateway as waypoint, by that Gateway; namespaces too
	instances multi[objects.Key, objects.Key] // pods by the Gateway they are said to be instances of
	classed   multi[string, objects.Key]      // Gateways by class
	leads     multi[string, objects.Key]      // Gateways by the network they lead into
	inNetwork multi[string, objects.Key]      // WorkloadEntries and ServiceEntries by network
	routed    multi[objects.Key, objects.Key] // routes by parent
	vips      vips
	// hidden are the objects of namespaces that are not discovered.
	hidden map[string]map[objects.Key]objects.Object
	// instancesChanged are Gateways whose instances may have other accounts than before.
	instancesChanged set[objects.Key]
}

func newInputs() inputs {
	return inputs{
		objs: map[objects.Key]objects.Object{}, inSpace: multi[string, objects.Key]{}, onNode: multi[string, objects.Key]{},
		targets: newGroups(), selecting: multi[pair, objects.Key]{}, spaceWide: multi[string, objects.Key]{},
		peerAuths: set[objects.Key]{}, sliceOf: multi[objects.Key, objects.Key]{}, slicePod: multi[objects.Key, objects.Key]{},
		targeted: multi[objects.Key, objects.Key]{},
		claims:   claims{}, asks: multi[objects.Key, objects.Key]{}, instances: multi[objects.Key, objects.Key]{},
		classed: multi[string, objects.Key]{}, leads: multi[string, objects.Key]{}, inNetwork: multi[string, objects.Key]{},
		routed: multi[objects.Key, objects.Key]{}, vips: newVIPs(),
		hidden: map[string]map[objects.Key]objects.Object{}, instancesChanged: set[objects.Key]{},
	}
}

func (in *inputs) add(s Settings, key objects.Key, o objects.Object) {
	in.objs[key] = o
	in.targets.put(key, targetLabels(o))
	in.index(key, o, multi[string, objects.Key].put, multi[pair, objects.Key].put, multi[objects.Key, objects.Key].put)
	in.claim(key, hostsOf(s, o))
	if se, ok := o.(*networkingv1.ServiceEntry); ok {
		in.vips.add(key, se)
	}
	if key.Kind == objects.PeerAuthentication {
		in.peerAuths.add(key)
	}
}

func (in *inputs) remove(s Settings, key objects.Key, o objects.Object) {
	delete(in.objs, key)
	in.targets.drop(key, targetLabels(o))
	in.index(key, o, multi[string, objects.Key].drop, multi[pair, objects.Key].drop, multi[objects.Key, objects.Key].drop)
	in.unclaim(key, hostsOf(s, o))
	if se, ok := o.(*networkingv1.ServiceEntry); ok {
		in.vips.remove(key, se)
	}
	delete(in.peerAuths, key)
}

// index puts an object into every index or takes it out.
func (in *inputs) index(key objects.Key, o objects.Object,
	byName func(multi[string, objects.Key], string, objects.Key),
	byPair func(multi[pair, objects.Key], pair, objects.Key),
	byKey func(multi[objects.Key, objects.Key], objects.Key, objects.Key),
) {
	byName(in.inSpace, key.Namespace, key)
	selector := selectorOf(o)
	if p, ok := firstPair(key.Namespace, selector); ok {
		byPair(in.selecting, p, key)
	}
	for _, gw := range asksOf(o) {
		byKey(in.asks, gw, key)
	}
	if key.Kind == objects.Pod || key.Kind == objects.WorkloadEntry {
		if name := o.GetLabels()[labelGatewayName]; name != "" {
			gw := gatewayKey(key.Namespace, name)
			byKey(in.instances, gw, key)
			in.instancesChanged.add(gw)
		}
	}
	for _, n := range networksOf(o) {
		byName(in.inNetwork, n, key)
	}
	for _, p := range parentsOf(o) {
		if parent, ok := parentKey(key.Namespace, parentRef(p)); ok {
			byKey(in.routed, parent, key)
		}
	}
	switch o := o.(type) {
	case *objects.CompactPod:
		byName(in.onNode, o.NodeName, key)
	case *gatewayv1.Gateway:
		byName(in.classed, string(o.Spec.GatewayClassName), key)
		if n := networkOf(o); n != "" {
			byName(in.leads, n, key)
		}
	case *corev1.Service:
		if bySlices(o) {
			for slice := range in.sliceOf[key] {
				if es := get[*objects.CompactSlice](in, slice.Kind, slice.Namespace, slice.Name); es != nil {
					in.indexPods(slice, es, byKey)
				}
			}
		}
	case *securityv1.PeerAuthentication:
		if len(selector) == 0 {
			byName(in.spaceWide, key.Namespace, key)
		}
	case *securityv1.AuthorizationPolicy:
		for _, ref := range targetRefs(o) {
			if target, ok := targetKey(key.Namespace, ref); ok {
				byKey(in.targeted, target, key)
			}
		}
	case *objects.CompactSlice:
		if svc, ok := serviceOfSlice(o); ok {
			byKey(in.sliceOf, svc, key)
			if s := get[*corev1.Service](in, svc.Kind, svc.Namespace, svc.Name); s != nil && bySlices(s) {
				in.indexPods(key, o, byKey)
			}
		}
	}
}

// indexPods puts a slice's pods into slicePod or takes them out.
func (in *inputs) indexPods(key objects.Key, es *objects.CompactSlice, byKey func(multi[objects.Key, objects.Key], objects.Key, objects.Key)) {
	for i := range es.Endpoints {
		if pod, ok := podOfEndpoint(es, &es.Endpoints[i]); ok {
			byKey(in.slicePod, pod, key)
		}
	}
}

// bySlices reports a Service whose pods are those that its slices name: selectors need no slices.
func bySlices(s *corev1.Service) bool { return len(s.Spec.Selector) == 0 }

// get is a typed object, or nil.
func get[T objects.Object](in *inputs, kind objects.Kind, namespace, name string) T {
	o, _ := in.objs[objects.Key{Kind: kind, Namespace: namespace, Name: name}].(T)
	return o
}

// asksOf are the Gateways that an object's labels name as waypoint or canary; for a ServiceEntry those of its endpoints too.
func asksOf(o objects.Object) []objects.Key {
	namespace := o.GetNamespace()
	if _, ok := o.(*corev1.Namespace); ok {
		namespace = o.GetName()
	}
	var out []objects.Key
	add := func(labels map[string]string) {
		if gw, ok := named(labels, labelUseWaypoint, labelUseWaypointSpace, namespace); ok {
			out = append(out, gw)
		}
		if gw, ok := named(labels, labelCanary, labelCanarySpace, namespace); ok {
			out = append(out, gw)
		}
	}
	add(o.GetLabels())
	switch o := o.(type) {
	case *networkingv1.ServiceEntry:
		for _, ep := range o.Spec.Endpoints {
			add(ep.GetLabels())
		}
	case *networkingv1.WorkloadEntry:
		add(o.Spec.Labels)
	}
	return out
}

// classNameOf is the class of a Gateway.
func classNameOf(o objects.Object) string {
	if gw, ok := o.(*gatewayv1.Gateway); ok {
		return string(gw.Spec.GatewayClassName)
	}
	return ""
}
