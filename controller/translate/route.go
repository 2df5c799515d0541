package translate

import (
	"github.com/ambit-mesh/ambit/controller/objects"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

const (
	groupGateway    = "gateway.networking.k8s.io"
	groupNetworking = "networking.istio.io"
)

// parentsOf are the parents that a route names; nil for objects that are no routes.
func parentsOf(o objects.Object) []gatewayv1.ParentReference {
	switch o := o.(type) {
	case *gatewayv1.HTTPRoute:
		return o.Spec.ParentRefs
	case *gatewayv1.GRPCRoute:
		return o.Spec.ParentRefs
	default:
		return nil
	}
}

// parentRef is a reference as the route writes it.
func parentRef(p gatewayv1.ParentReference) objects.ParentRef {
	ref := objects.ParentRef{GroupKind: objects.GroupKind{Group: groupGateway, Kind: "Gateway"}, Name: string(p.Name)}
	if p.Group != nil {
		ref.Group = string(*p.Group)
	}
	if p.Kind != nil {
		ref.Kind = string(*p.Kind)
	}
	if p.Namespace != nil {
		ref.Namespace = string(*p.Namespace)
	}
	if p.SectionName != nil {
		ref.Section = string(*p.SectionName)
	}
	if p.Port != nil {
		ref.Port = *p.Port
	}
	return ref
}

// parentKey is the object that a reference of a route in namespace means, if it is of a kind that the mesh knows.
func parentKey(namespace string, ref objects.ParentRef) (objects.Key, bool) {
	key := objects.Key{Namespace: firstOf(ref.Namespace, namespace), Name: ref.Name}
	switch ref.GroupKind {
	case objects.GroupKind{Group: groupGateway, Kind: "Gateway"}:
		key.Kind = objects.Gateway
	case objects.GroupKind{Kind: "Service"}, objects.GroupKind{Group: "core", Kind: "Service"}:
		key.Kind = objects.Service
	case objects.GroupKind{Group: groupNetworking, Kind: "ServiceEntry"}:
		key.Kind = objects.ServiceEntry
	default:
		return objects.Key{}, false
	}
	return key, true
}

// route is the unit of a route: what its owner is told of the Services it names as parents. Gateways count their routes
// themselves.
func (t *Translator) route(key objects.Key) unit {
	st := &objects.Status{}
	for _, p := range parentsOf(t.in.objs[key]) {
		ref := parentRef(p)
		parent, ok := parentKey(key.Namespace, ref)
		if !ok || parent.Kind == objects.Gateway {
			continue
		}
		st.Parents = append(st.Parents, objects.ParentStatus{Ref: ref, Conditions: []objects.Condition{t.resolved(parent)}})
	}
	return unit{extra: st}
}

// resolved says which waypoint serves the routes of a parent. As in Istio the condition is never false: its message tells.
func (t *Translator) resolved(parent objects.Key) objects.Condition {
	c := objects.Condition{Type: "ResolvedWaypoints", Status: true, Reason: "ResolvedWaypoints", Message: "all waypoints resolved"}
	o, ok := t.in.objs[parent].(metav1.Object)
	if !ok {
		c.Message = "NoMatchingParent: parent not found"
		return c
	}
	if b := t.serviceBinding(parent, o); !b.asked {
		c.Message = "MissingUseWaypointLabel: neither the parent nor its namespace names a waypoint, so the route has no effect in the mesh"
	} else if len(b.gateways) == 0 {
		c.Message = b.conditions[0].Message
	}
	return c
}
