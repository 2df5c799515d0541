package translate

import (
	"cmp"
	"fmt"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/ambit-mesh/ambit/controller/api/workload"
	"github.com/ambit-mesh/ambit/controller/objects"
)

const (
	labelCanary      = "istio.io/use-waypoint-canary"
	labelCanarySpace = "istio.io/use-waypoint-canary-namespace"
	annotCanary      = "istio.io/use-waypoint-canary-weight"

	conditionBound = "istio.io/WaypointBound"
)

// binding is how a Service or ServiceEntry, or a workload, is bound to waypoints.
type binding struct {
	asked      bool
	waypoint   *workload.GatewayAddress // one that does not resolve, if what was asked for cannot be used
	weighted   []*workload.WeightedWaypoint
	gateways   []objects.Key // those that can be used
	gateway    objects.Key   // the one asked for
	conditions []objects.Condition
}

// serviceBinding binds a Service or ServiceEntry.
//
// A waypoint that was asked for and cannot be used is published under a name that does not resolve, so that every proxy
// refuses instead of passing by the policies that the waypoint would enforce.
func (t *Translator) serviceBinding(key objects.Key, o metav1.Object) binding {
	req, ok := t.request(o)
	if !ok {
		return binding{}
	}
	b := binding{asked: true, gateway: req.gateway}
	gw, why := t.serviceUsable(key, req.gateway)
	if req.inherited && gw != nil && t.noWaypoint(gw) == "" { // even if it is not ready
		why = cmp.Or(t.wrongTraffic(gw, "service"), why)
	}
	name := req.gateway.Namespace + "/" + req.gateway.Name
	switch {
	case why.reason == "":
		b.waypoint, b.gateways = t.gatewayAddress(gw), []objects.Key{req.gateway}
		c := objects.Condition{Type: conditionBound, Status: true, Reason: "WaypointAccepted", Message: "bound to waypoint " + name}
		if bad := t.canary(&b, key, o, req.gateway); bad.reason != "" {
			c.Status, c.Reason, c.Message = false, bad.reason, c.Message+"; its canary is left out: "+bad.detail
		}
		b.conditions = []objects.Condition{c}
	case t.bypasses(o) || req.inherited && why.reason == reasonTraffic:
		// A namespace's waypoint for workloads is, by its own word, none for services.
		b.conditions = []objects.Condition{refused(name, why, "connections go past it")}
	default:
		b.waypoint = unusable(req.gateway)
		b.conditions = []objects.Condition{refused(name, why, "connections are refused until it can")}
	}
	return b
}

func refused(name string, why refusal, effect string) objects.Condition {
	return objects.Condition{
		Type: conditionBound, Reason: why.reason,
		Message: fmt.Sprintf("waypoint %s cannot be used: %s; %s", name, why.detail, effect),
	}
}

// serviceUsable is usable for services; an entry that only its own namespace sees must not show in another.
func (t *Translator) serviceUsable(key, gateway objects.Key) (gw *gatewayv1.Gateway, why refusal) {
	gw, why = t.usable(gateway, key.Namespace, "service")
	if why.reason == "" && gateway.Namespace != key.Namespace && t.scopeOf(key) == ownNamespace {
		why = refusal{reasonForeign, "the entry is visible in its own namespace only"}
	}
	return gw, why
}

// canary adds a second waypoint with a share of the connections. It is read where the first one is: from the object, and from
// the namespace only if the object names no waypoint itself.
func (t *Translator) canary(b *binding, key objects.Key, o metav1.Object, primary objects.Key) refusal {
	labels, annotations := o.GetLabels(), o.GetAnnotations()
	own := labels[labelUseWaypoint] != ""
	if !own && labels[labelCanary] == "" {
		labels = t.spaceLabels(key.Namespace)
	}
	canary, ok := named(labels, labelCanary, labelCanarySpace, key.Namespace)
	if !ok {
		return refusal{}
	}
	text, ok := annotations[annotCanary]
	if !ok && !own {
		text, ok = t.spaceAnnotations(key.Namespace)[annotCanary]
	}
	weight := uint64(0)
	if ok {
		var err error
		if weight, err = strconv.ParseUint(text, 10, 8); err != nil || weight > 100 {
			return refusal{"CanaryInvalidWeight", fmt.Sprintf("weight %q is not 0 to 100", clip(text))}
		}
	}
	if canary == primary {
		return refusal{"CanarySameAsPrimary", "it is the same waypoint"}
	}
	gw, why := t.serviceUsable(key, canary)
	if why.reason != "" {
		return refusal{why.reason, canary.Namespace + "/" + canary.Name + ": " + why.detail}
	}
	b.gateways = append(b.gateways, canary)
	b.weighted = []*workload.WeightedWaypoint{
		{Destination: b.waypoint, Weight: uint32(100 - weight)},
		{Destination: t.gatewayAddress(gw), Weight: uint32(weight)},
	}
	return refusal{}
}

// workloadBinding binds a workload's own address. A waypoint that the namespace names for services is none; one of which
// nothing is known yet is for services too, as that is the default.
func (t *Translator) workloadBinding(o metav1.Object) binding {
	req, ok := t.request(o)
	if !ok {
		return binding{}
	}
	gw, why := t.usable(req.gateway, o.GetNamespace(), "workload")
	name := req.gateway.Namespace + "/" + req.gateway.Name
	if why.reason == "" {
		return binding{asked: true, gateway: req.gateway, gateways: []objects.Key{req.gateway}, waypoint: t.gatewayAddress(gw), conditions: []objects.Condition{
			{Type: conditionBound, Status: true, Reason: "WaypointAccepted", Message: "bound to waypoint " + name},
		}}
	}
	if req.inherited {
		if gw == nil || t.noWaypoint(gw) != "" {
			return binding{}
		}
		if t.wrongTraffic(gw, "workload").reason != "" {
			return binding{}
		}
	}
	b := binding{asked: true, gateway: req.gateway}
	if t.bypasses(o) {
		b.conditions = []objects.Condition{refused(name, why, "connections go past it")}
		return b
	}
	b.waypoint = unusable(req.gateway)
	b.conditions = []objects.Condition{refused(name, why, "connections are refused until it can")}
	return b
}

// ingress reports that ingress gateways go through the waypoint too.
func (t *Translator) ingress(b binding, o metav1.Object) bool {
	return b.waypoint != nil && firstOf(o.GetLabels()[labelIngressWaypoint], t.spaceLabels(o.GetNamespace())[labelIngressWaypoint]) == "true"
}
