package validate

import (
	"k8s.io/apimachinery/pkg/util/validation/field"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

const hbonePort = 15008

// proxyProtocol is spoken to a waypoint behind a node proxy, which takes HBONE for it.
const proxyProtocol = "istio.io/PROXY"

// waypointClass is the class of waypoints.
const waypointClass = "istio-waypoint"

func (c *check) gateway(o *gatewayv1.Gateway) {
	if o.Spec.GatewayClassName == "" {
		c.fail(spec("gatewayClassName"), "use istio-waypoint for a waypoint", "a class is required")
	}
	waypoint := o.Spec.GatewayClassName == waypointClass
	if o.Name == "none" && waypoint {
		c.fail(field.NewPath("metadata", "name"), "", `"none" in istio.io/use-waypoint means no waypoint: none can have that name`)
	}
	names, hbone := map[gatewayv1.SectionName]bool{}, false
	for i, l := range o.Spec.Listeners {
		at := spec("listeners").Index(i)
		if l.Port < 1 || l.Port > 65535 {
			c.fail(at.Child("port"), "", "port %d is out of range: want 1 to 65535", l.Port)
		}
		if names[l.Name] {
			c.fail(at.Child("name"), "", "listener %q is there twice", clip(string(l.Name)))
		}
		names[l.Name] = true
		if l.Hostname != nil && *l.Hostname != "" {
			c.host(at.Child("hostname"), string(*l.Hostname))
		}
		c.listenerProtocol(at.Child("protocol"), l, waypoint)
		hbone = hbone || l.Protocol == "HBONE" && l.Port == hbonePort || l.Protocol == proxyProtocol
		if r := l.AllowedRoutes; r != nil && r.Namespaces != nil && r.Namespaces.From != nil && *r.Namespaces.From == gatewayv1.NamespacesFromSelector && r.Namespaces.Selector == nil {
			c.fail(at.Child("allowedRoutes", "namespaces", "selector"), "", "from: Selector needs a selector")
		}
	}
	if waypoint && !hbone {
		c.warn(spec("listeners"), "add {name: mesh, port: 15008, protocol: HBONE}", "a waypoint without that listener is never reached")
	}
}

func (c *check) listenerProtocol(p *field.Path, l gatewayv1.Listener, waypoint bool) {
	switch l.Protocol {
	case "HBONE":
		if l.Port != hbonePort {
			c.warn(p, "use port 15008", "HBONE is spoken at port 15008 only")
		}
	case proxyProtocol:
	case gatewayv1.HTTPProtocolType, gatewayv1.HTTPSProtocolType, gatewayv1.TCPProtocolType, gatewayv1.TLSProtocolType, gatewayv1.UDPProtocolType:
		if waypoint {
			c.warn(p, "", "waypoints listen for HBONE only: this listener is ignored")
		}
	default:
		c.warn(p, didYouMean(string(l.Protocol), "HTTP", "HTTPS", "TCP", "TLS", "UDP", "HBONE", proxyProtocol), "protocol %q is not known", clip(string(l.Protocol)))
	}
}

// parents checks what a route hangs on.
func (c *check) parents(refs []gatewayv1.ParentReference) {
	if len(refs) == 0 {
		c.warn(spec("parentRefs"), "name a Service, ServiceEntry or Gateway", "without a parent the route applies to nothing")
	}
	for i, ref := range refs {
		at := spec("parentRefs").Index(i)
		group, kind := gatewayv1.GroupName, "Gateway"
		if ref.Group != nil {
			group = string(*ref.Group)
		}
		if ref.Kind != nil {
			kind = string(*ref.Kind)
		}
		switch {
		case kind == "Service" && group == gatewayv1.GroupName:
			c.fail(at.Child("group"), `write group: ""`, "kind Service is of the core group: without a group, that of the Gateway API is meant")
		case kind == "ServiceEntry" && group != "networking.istio.io":
			c.fail(at.Child("group"), `use "networking.istio.io"`, "group %q has no kind ServiceEntry", clip(group))
		case kind != "Service" && kind != "ServiceEntry" && kind != "Gateway" && kind != "ListenerSet":
			c.warn(at.Child("kind"), oneOf(kind, "Gateway", "Service", "ServiceEntry"), "routes cannot hang on a %s of group %q", clip(kind), clip(group))
		}
		if ref.Port != nil && (*ref.Port < 1 || *ref.Port > 65535) {
			c.fail(at.Child("port"), "", "port %d is out of range: want 1 to 65535", *ref.Port)
		}
	}
}

// backend checks where a route sends.
func (c *check) backend(p *field.Path, b gatewayv1.BackendObjectReference) {
	kind, group := "Service", ""
	if b.Kind != nil {
		kind = string(*b.Kind)
	}
	if b.Group != nil {
		group = string(*b.Group)
	}
	switch {
	case kind == "Service" && group == "" && b.Port == nil:
		c.fail(p.Child("port"), "", "a port is required for a Service")
	case kind == "Hostname" && group != "networking.istio.io":
		c.fail(p.Child("group"), `use "networking.istio.io"`, "group %q has no kind Hostname", clip(group))
	}
	if b.Port != nil && (*b.Port < 1 || *b.Port > 65535) {
		c.fail(p.Child("port"), "", "port %d is out of range: want 1 to 65535", *b.Port)
	}
}

// shares checks weights; each is 1 where it is not set.
func (c *check) shares(p *field.Path, weights []*int32) {
	sum := int64(0)
	for i, w := range weights {
		switch {
		case w == nil:
			sum++
		case *w < 0:
			c.fail(p.Index(i).Child("weight"), "", "weight %d is negative", *w)
		default:
			sum += int64(*w)
		}
	}
	if len(weights) > 0 && sum == 0 {
		c.warn(p, "", "all weights are 0: every request is answered 500")
	}
}

func (c *check) routeHosts(hosts []gatewayv1.Hostname) {
	for i, h := range hosts {
		c.host(spec("hostnames").Index(i), string(h))
	}
}
