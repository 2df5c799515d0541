package translate

import (
	"fmt"
	"strings"

	typeapi "istio.io/api/type/v1beta1"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	corev1 "k8s.io/api/core/v1"
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
			bad = append(bad, fmt.Sprintf("%s %s: %s", clip(ref.GetKind()), clip(ref.GetName()), why))
			reason = firstOf(reason, why)
		}
	}
	c := objects.Condition{Type: conditionWaypoint, Reason: reason, Message: "not enforced: " + strings.Join(bad, "; ")}
	switch len(bad) {
	case 0:
		return objects.Condition{Type: conditionWaypoint, Status: true, Reason: reasonAccepted, Message: "enforced by waypoints"}
	case len(refs):
	default:
		c.Reason = "PartiallyInvalid"
	}
	return c
}

// targetProblem is the reason why a reference leads to no waypoint; "" if it does.
func (t *Translator) targetProblem(policy objects.Key, ref *typeapi.PolicyTargetReference) string {
	const notFound, notBound, invalid = "TargetNotFound", "AncestorNotBound", "Invalid"
	if ref.GetKind() == "GatewayClass" {
		switch {
		case policy.Namespace != t.set.RootNamespace:
			return invalid
		case ref.GetName() != "istio-waypoint":
			return notFound
		}
		return ""
	}
	target, ok := targetKey(policy.Namespace, ref)
	if !ok || ref.GetNamespace() != "" && ref.GetNamespace() != policy.Namespace {
		return invalid
	}
	var o metav1.Object
	switch object := t.in.objs[target].(type) {
	case *gatewayv1.Gateway:
		if gatewayAddress(object, t.set.Network) == nil {
			return notFound
		}
		return ""
	case *corev1.Service:
		o = object
	case *networkingv1.ServiceEntry:
		o = object
	default:
		return notFound
	}
	req, ok := t.request(policy, o)
	if !ok {
		return notBound
	}
	if _, why := t.usable(req, target.Namespace, "service"); why != "" {
		return notBound
	}
	return ""
}
