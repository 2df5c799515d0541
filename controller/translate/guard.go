package translate

import (
	"cmp"
	"maps"
	"slices"

	securityapi "istio.io/api/security/v1beta1"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ambit-mesh/ambit/controller/objects"
)

// annotAdmit, on a Service, a ServiceEntry or a namespace, lets clients reach workloads past a waypoint that enforces policies.
const annotAdmit = "ambit.io/admit-past-waypoint"

// guard says who may reach the ports of a service: the instances of these waypoints only. It stands for a service whose
// waypoint enforces some policy, which whoever comes past the waypoint would evade.
type guard struct{ waypoints []objects.Key }

// updateGuards keeps every service's guard current before the workloads are made, and marks those behind a service whose guard
// changed. A workload's unit may read guards and accounts for this reason.
func (t *Translator) updateGuards() {
	for gw := range t.in.instancesChanged {
		now := t.readAccounts(gw)
		if slices.Equal(now, t.accounts[gw]) {
			continue
		}
		store(t.accounts, gw, now, len(now) == 0)
		for service := range t.guarded[gw] {
			t.dirty.add(service)
			t.markBehind(service)
		}
	}
	clear(t.in.instancesChanged)
	for key := range t.dirty {
		if key.Kind != objects.Service && key.Kind != objects.ServiceEntry {
			continue
		}
		old, had := t.guards[key]
		now, has := t.guardOf(key)
		if had == has && slices.Equal(old.waypoints, now.waypoints) {
			continue
		}
		for _, gw := range old.waypoints {
			t.guarded.drop(gw, key)
		}
		for _, gw := range now.waypoints {
			t.guarded.put(gw, key)
		}
		store(t.guards, key, now, !has)
		t.markBehind(key)
	}
}

// withGuard adds to what the owner of a bound service is told that its guard admits nobody, as long as that is so.
func (t *Translator) withGuard(key objects.Key, bound []objects.Condition) []objects.Condition {
	g, ok := t.guards[key]
	if !ok || len(g.waypoints) == 0 || slices.ContainsFunc(g.waypoints, func(gw objects.Key) bool { return len(t.accounts[gw]) > 0 }) {
		return bound
	}
	for i := range bound {
		bound[i].Message += "; it has no pods with label " + labelGatewayName + ", so the workloads admit nobody to the service's ports"
	}
	return bound
}

// markBehind marks the workloads of a service.
func (t *Translator) markBehind(service objects.Key) {
	switch o := t.in.objs[service].(type) {
	case *corev1.Service:
		t.markTargets(service.Namespace, o.Spec.Selector)
		t.markSlices(service)
	case *networkingv1.ServiceEntry:
		t.markTargets(service.Namespace, o.Spec.GetWorkloadSelector().GetLabels())
	}
}

// readAccounts lists the service accounts of a gateway's instances, in order.
func (t *Translator) readAccounts(gw objects.Key) []string {
	all := set[string]{}
	for key := range t.in.instances[gw] {
		if p := get[*objects.CompactPod](&t.in, key.Kind, key.Namespace, key.Name); p != nil && !p.Ended() {
			all.add(firstOf(p.ServiceAccountName, "default"))
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// guardOf is the guard of a service as it is now.
func (t *Translator) guardOf(key objects.Key) (guard, bool) {
	o, ok := t.in.objs[key].(metav1.Object)
	if !ok || t.admitsPast(o) {
		return guard{}, false
	}
	b := t.serviceBinding(key, o)
	if b.waypoint == nil || !t.hasPolicies(key, b.gateway) {
		return guard{}, false
	}
	return guard{slices.SortedFunc(slices.Values(b.gateways), objects.Key.Compare)}, true
}

// admitsPast reports a service whose owner lets clients come past its waypoint.
func (t *Translator) admitsPast(o metav1.Object) bool {
	return firstOf(o.GetAnnotations()[annotAdmit], t.spaceAnnotations(o.GetNamespace())[annotAdmit]) == "true"
}

// hasPolicies reports that some policy is enforced for the service by the waypoint it asks for. What is for all of a waypoint's
// services does not count for a headless one: in any ambient mesh its clients go to the pods, past the waypoint.
func (t *Translator) hasPolicies(service, gateway objects.Key) bool {
	targets := []objects.Key{service}
	if s, ok := t.in.objs[service].(*corev1.Service); !ok || !headless(s) {
		targets = append(targets, gateway)
		if gw := t.in.objs[gateway]; gw != nil {
			targets = append(targets, classKey(classNameOf(gw)))
		}
	}
	for _, target := range targets {
		for key := range t.in.targeted[target] {
			if p := get[*securityv1.AuthorizationPolicy](&t.in, key.Kind, key.Namespace, key.Name); t.enforcedAt(p, target) {
				return true
			}
		}
	}
	return false
}

// enforcedAt reports policies by which a waypoint refuses something on behalf of the target.
func (t *Translator) enforcedAt(p *securityv1.AuthorizationPolicy, target objects.Key) bool {
	return !dryRun(p) && p.Spec.Action != securityapi.AuthorizationPolicy_AUDIT &&
		(target.Kind != objects.GatewayClass || p.Namespace == t.set.RootNamespace)
}

// portGuards gathers, for one workload, who may reach which port. A port of several guarded services may be reached by the
// waypoints of each.
type portGuards map[uint32]set[objects.Key]

func (g portGuards) add(port uint32, by guard) {
	if g[port] == nil {
		g[port] = set[objects.Key]{}
	}
	for _, gw := range by.waypoints {
		g[port].add(gw)
	}
}

// rules are the guards by waypoints: each rule's ports are in order, and so are the rules.
func (g portGuards) rules() []guardRule {
	byGateways := map[string]*guardRule{}
	for port, gateways := range g {
		keys := slices.SortedFunc(maps.Keys(gateways), objects.Key.Compare)
		name := ""
		for _, k := range keys {
			name += k.String() + ","
		}
		if byGateways[name] == nil {
			byGateways[name] = &guardRule{waypoints: keys}
		}
		byGateways[name].ports = append(byGateways[name].ports, port)
	}
	var out []guardRule
	for _, r := range byGateways {
		slices.Sort(r.ports)
		out = append(out, *r)
	}
	slices.SortFunc(out, func(a, b guardRule) int { return cmp.Compare(a.ports[0], b.ports[0]) })
	return out
}

// guardRule is one set of ports and the waypoints that may reach them.
type guardRule struct {
	waypoints []objects.Key
	ports     []uint32
}
