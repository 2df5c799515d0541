package translate

import (
	"fmt"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/ambit-mesh/ambit/controller/objects"
)

// routeKinds are what waypoint listeners take.
var routeKinds = []objects.GroupKind{{Group: groupGateway, Kind: "HTTPRoute"}, {Group: groupGateway, Kind: "GRPCRoute"}}

// gatewayClass is the unit of a GatewayClass.
func (t *Translator) gatewayClass(key objects.Key) unit {
	c := get[*gatewayv1.GatewayClass](&t.in, key.Kind, "", key.Name)
	if !ours(string(c.Spec.ControllerName)) {
		return unit{}
	}
	return unit{conditions: []objects.Condition{{Type: "Accepted", Status: true, Reason: "Accepted", Message: "handled by the mesh's controller"}}}
}

// gateway is the unit of a Gateway: its conditions, if its class is the mesh's, and the workloads of a gateway to another network.
func (t *Translator) gateway(key objects.Key) unit {
	gw := get[*gatewayv1.Gateway](&t.in, key.Kind, key.Namespace, key.Name)
	u := unit{addresses: t.gatewayWorkloads(key, gw)}
	controller := t.controllerOf(string(gw.Spec.GatewayClassName))
	if !ours(controller) {
		return u
	}
	good := 0
	u.extra = &objects.Status{}
	for i := range gw.Spec.Listeners {
		st, ok := t.listener(key, gw, i, controller)
		if ok {
			good++
		}
		u.extra.Listeners = append(u.extra.Listeners, st)
	}
	u.conditions = gatewayConditions(len(gw.Spec.Listeners), good, t.gatewayAddress(gw) != nil)
	return u
}

func gatewayConditions(listeners, good int, reachable bool) []objects.Condition {
	accepted := objects.Condition{Type: "Accepted", Status: true, Reason: "Accepted", Message: "accepted by the mesh's controller"}
	programmed := objects.Condition{Type: "Programmed", Status: true, Reason: "Programmed", Message: "node proxies know where it is"}
	if good < listeners {
		accepted.Reason, accepted.Message = "ListenersNotValid", fmt.Sprintf("%d of %d listeners cannot be used", listeners-good, listeners)
		accepted.Status = good > 0
	}
	switch {
	case !accepted.Status:
		programmed.Status, programmed.Reason, programmed.Message = false, "Invalid", "no listener can be used"
	case !reachable:
		programmed.Status, programmed.Reason, programmed.Message = false, "AddressNotAssigned", "it has no address yet; what is bound to it is refused"
	}
	return []objects.Condition{accepted, programmed, {Type: "ResolvedRefs", Status: true, Reason: "ResolvedRefs", Message: "all references resolved"}}
}

// listener judges one listener and counts the routes attached to it.
func (t *Translator) listener(key objects.Key, gw *gatewayv1.Gateway, i int, controller string) (objects.ListenerStatus, bool) {
	l := &gw.Spec.Listeners[i]
	st := objects.ListenerStatus{Name: string(l.Name)}
	accepted := objects.Condition{Type: "Accepted", Status: true, Reason: "Accepted"}
	refs := objects.Condition{Type: "ResolvedRefs", Status: true, Reason: "ResolvedRefs"}
	conflicted := objects.Condition{Type: "Conflicted", Reason: "NoConflicts"}
	if why := listenerProblem(l, controller); why != "" {
		accepted.Status, accepted.Reason, accepted.Message = false, "UnsupportedProtocol", why
	} else {
		st.AttachedRoutes, st.SupportedKinds = t.attached(key, gw, l), routeKinds
		if kinds, unknown := allowedKinds(l); kinds != nil || unknown != "" {
			st.SupportedKinds = kinds
			if unknown != "" {
				refs.Status, refs.Reason, refs.Message = false, "InvalidRouteKinds", "routes of kind "+unknown+" cannot be attached"
			}
		}
	}
	for _, other := range gw.Spec.Listeners[:i] {
		if other.Port == l.Port && hostnameText(other.Hostname) == hostnameText(l.Hostname) {
			conflicted.Status, conflicted.Reason, conflicted.Message = true, "HostnameConflict", "same port and host name as listener "+clip(string(other.Name))
			if other.Protocol != l.Protocol {
				conflicted.Reason, conflicted.Message = "ProtocolConflict", "another protocol at the same port in listener "+clip(string(other.Name))
			}
		}
	}
	good := accepted.Status && !conflicted.Status
	programmed := objects.Condition{Type: "Programmed", Status: good, Reason: "Programmed"}
	if !good {
		programmed.Reason = "Invalid"
	}
	st.Conditions = []objects.Condition{accepted, conflicted, programmed, refs}
	return st, good
}

// listenerProblem says why a listener cannot be used by gateways of a controller; "" if it can.
func listenerProblem(l *gatewayv1.Listener, controller string) string {
	switch {
	case controller == controllerUnmanaged:
		return ""
	case controller == controllerWaypoint && l.Protocol == protocolProxy:
		return ""
	case controller == controllerEastWest && l.Protocol == gatewayv1.TLSProtocolType:
		if l.TLS != nil && l.TLS.Mode != nil && *l.TLS.Mode == gatewayv1.TLSModePassthrough {
			return ""
		}
		return "protocol TLS needs tls.mode Passthrough"
	case l.Protocol != protocolHBONE || l.Port != hbonePort:
		return fmt.Sprintf("protocol %s at port %d: want HBONE at %d", clip(string(l.Protocol)), l.Port, hbonePort)
	case controller == controllerEastWest:
		terminates := l.TLS != nil && l.TLS.Mode != nil && *l.TLS.Mode == gatewayv1.TLSModeTerminate &&
			l.TLS.Options["gateway.istio.io/tls-terminate-mode"] == "ISTIO_MUTUAL"
		if !terminates {
			return "HBONE between networks needs tls.mode Terminate with option gateway.istio.io/tls-terminate-mode: ISTIO_MUTUAL"
		}
	}
	return ""
}

// allowedKinds are the kinds a listener allows of those that can be attached, and one that cannot. Without a list it is nil.
func allowedKinds(l *gatewayv1.Listener) (kinds []objects.GroupKind, unknown string) {
	if l.AllowedRoutes == nil {
		return nil, ""
	}
	for _, k := range l.AllowedRoutes.Kinds {
		gk := objects.GroupKind{Group: groupGateway, Kind: string(k.Kind)}
		if k.Group != nil {
			gk.Group = string(*k.Group)
		}
		if gk == routeKinds[0] || gk == routeKinds[1] {
			kinds = append(kinds, gk)
		} else {
			unknown = clip(gk.Kind)
		}
	}
	return kinds, unknown
}

// attached counts the routes that name the listener, of kinds and namespaces that it allows.
func (t *Translator) attached(key objects.Key, gw *gatewayv1.Gateway, l *gatewayv1.Listener) int32 {
	kinds, unknown := allowedKinds(l)
	if kinds == nil && unknown == "" {
		kinds = routeKinds
	}
	n := int32(0)
	for route := range t.in.routed[key] {
		allowed := false
		for _, k := range kinds {
			allowed = allowed || k.Kind == string(route.Kind)
		}
		if allowed && t.names(route, key, l) && t.allows(gw, l, route.Namespace) {
			n++
		}
	}
	return n
}

// names reports whether some reference of the route means the listener.
func (t *Translator) names(route, gateway objects.Key, l *gatewayv1.Listener) bool {
	for _, p := range parentsOf(t.in.objs[route]) {
		ref := parentRef(p)
		if key, ok := parentKey(route.Namespace, ref); ok && key == gateway &&
			(ref.Section == "" || ref.Section == string(l.Name)) && (ref.Port == 0 || ref.Port == l.Port) {
			return true
		}
	}
	return false
}

func hostnameText(h *gatewayv1.Hostname) string {
	if h == nil {
		return ""
	}
	return string(*h)
}
