package translate

import (
	"strings"

	securityapi "istio.io/api/security/v1beta1"
	typeapi "istio.io/api/type/v1beta1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/ambit-mesh/ambit/controller/objects"
)

const conditionWaypoint = "WaypointAccepted"

// targetRefs are what a policy names as its targets, in either of the two fields.
func targetRefs(p *securityv1.AuthorizationPolicy) []*typeapi.PolicyTargetReference {
	if ref := p.Spec.GetTargetRef(); ref != nil {
		return append([]*typeapi.PolicyTargetReference{ref}, p.Spec.GetTargetRefs()...)
	}
	return p.Spec.GetTargetRefs()
}

// targetKey is the object that a reference means, if it is of a kind that can be looked up.
func targetKey(namespace string, ref *typeapi.PolicyTargetReference) (objects.Key, bool) {
	key := objects.Key{Namespace: namespace, Name: ref.GetName()}
	switch ref.GetKind() + "." + ref.GetGroup() {
	case "Service.", "Service.core":
		key.Kind = objects.Service
	case "ServiceEntry.networking.istio.io":
		key.Kind = objects.ServiceEntry
	case "Gateway.gateway.networking.k8s.io":
		key.Kind = objects.Gateway
	case "GatewayClass.gateway.networking.k8s.io":
		key.Kind, key.Namespace = objects.GatewayClass, ""
	default:
		return objects.Key{}, false
	}
	return key, true
}

// targetCondition tells the owner of a policy with targets whether waypoints enforce it. Node proxies never do.
func (t *Translator) targetCondition(key objects.Key, p *securityv1.AuthorizationPolicy) objects.Condition {
	var bad []string
	var reason string
	refs := targetRefs(p)
	for _, ref := range refs {
		if why := t.targetProblem(key, ref); why != "" {
			bad = append(bad, ancestor(key, ref)+": "+why)
			reason = firstOf(reason, why)
		}
	}
	c := objects.Condition{Type: conditionWaypoint, Reason: reason, Message: "not enforced: " + strings.Join(bad, "; ")}
	switch len(bad) {
	case 0:
		return objects.Condition{Type: conditionWaypoint, Status: true, Reason: reasonAccepted, Message: "enforced by waypoints" + t.guarding(key, p)}
	case len(refs):
	default:
		c.Reason = "PartiallyInvalid"
	}
	return c
}

// guarding says what of an enforced policy holds against those who come past the waypoint, as guardOf decides it.
func (t *Translator) guarding(key objects.Key, p *securityv1.AuthorizationPolicy) string {
	if dryRun(p) || p.Spec.Action == securityapi.AuthorizationPolicy_AUDIT {
		return ""
	}
	text := "; at workloads, the services' ports are open to those waypoints only"
	for _, ref := range targetRefs(p) {
		target, _ := targetKey(key.Namespace, ref)
		switch o, ok := t.in.objs[target].(metav1.Object); {
		case target.Kind == objects.Gateway, target.Kind == objects.GatewayClass:
			return text + ", but for headless services and what is annotated " + annotAdmit
		case ok && t.admitsPast(o):
			text += "; but those of " + clip(target.Name) + " to everybody, by " + annotAdmit
		}
	}
	return text
}

// targetProblem is the reason why a reference leads to no waypoint; "" if it does.
func (t *Translator) targetProblem(policy objects.Key, ref *typeapi.PolicyTargetReference) string {
	const notFound, notBound, invalid = "TargetNotFound", "AncestorNotBound", "Invalid"
	target, ok := targetKey(policy.Namespace, ref)
	if !ok || ref.GetNamespace() != "" && ref.GetNamespace() != policy.Namespace {
		return invalid
	}
	if target.Kind == objects.GatewayClass {
		switch controller := t.controllerOf(target.Name); {
		case policy.Namespace != t.set.RootNamespace:
			return invalid
		case controller == "":
			return notFound
		case controller != controllerWaypoint:
			return invalid
		}
		return ""
	}
	o := t.in.objs[target]
	if o == nil {
		return notFound
	}
	if gw, ok := o.(*gatewayv1.Gateway); ok {
		if t.noWaypoint(gw) != "" || t.gatewayAddress(gw) == nil {
			return notFound
		}
		return ""
	}
	if len(t.serviceBinding(target, o).gateways) == 0 {
		return notBound
	}
	return ""
}

// ancestor names a target as in conditions: Kind.group:namespace/name.
func ancestor(policy objects.Key, ref *typeapi.PolicyTargetReference) string {
	name := clip(ref.GetKind()) + "." + firstOf(clip(ref.GetGroup()), "core") + ":"
	if ref.GetKind() != "GatewayClass" {
		name += policy.Namespace + "/"
	}
	return name + clip(ref.GetName())
}
