package translate

import (
	"net/netip"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/ambit-mesh/ambit/controller/api/workload"
	"github.com/ambit-mesh/ambit/controller/objects"
)

const (
	labelUseWaypoint      = "istio.io/use-waypoint"
	labelUseWaypointSpace = "istio.io/use-waypoint-namespace"
	labelWaypointFor      = "istio.io/waypoint-for"
	labelIngressWaypoint  = "istio.io/ingress-use-waypoint"
	labelManaged          = "gateway.istio.io/managed"
	labelGatewayName      = "gateway.networking.k8s.io/gateway-name"
	// annotBypass lets traffic pass by a waypoint that is not there, as Istio does.
	annotBypass = "ambit.io/bypass-missing-waypoint"

	reasonNotReady = "WaypointIsNotReady"
	reasonDenied   = "AttachmentDenied"
	reasonTraffic  = "UnsupportedTrafficType"
	reasonForeign  = "CrossNamespaceWaypointForbidden"
)

// request is a waypoint an object asks for.
type request struct {
	gateway   objects.Key
	inherited bool // from the namespace
}

// refusal is why a waypoint cannot be used; the zero value is that it can.
type refusal struct{ reason, detail string }

// request reads the labels of the object, then those of its namespace. "none" asks for none.
func (t *Translator) request(o metav1.Object) (request, bool) {
	if m := o.GetLabels()[labelManaged]; m == "istio.io-mesh-controller" || m == "istio.io-eastwest-controller" {
		return request{}, false
	}
	labels, inherited := o.GetLabels(), false
	if labels[labelUseWaypoint] == "" {
		labels, inherited = t.spaceLabels(o.GetNamespace()), true
	}
	gw, ok := named(labels, labelUseWaypoint, labelUseWaypointSpace, o.GetNamespace())
	return request{gw, inherited}, ok
}

// named is the Gateway that labels name, by default in the namespace of the object.
func named(labels map[string]string, name, space, namespace string) (objects.Key, bool) {
	gw := labels[name]
	if gw == "" || gw == "none" {
		return objects.Key{}, false
	}
	return gatewayKey(firstOf(labels[space], namespace), gw), true
}

// usable checks a gateway for one kind of traffic of one namespace.
func (t *Translator) usable(key objects.Key, from, traffic string) (*gatewayv1.Gateway, refusal) {
	gw := get[*gatewayv1.Gateway](&t.in, key.Kind, key.Namespace, key.Name)
	if gw == nil {
		return nil, refusal{reasonNotReady, "there is no such Gateway"}
	}
	if why := t.noWaypoint(gw); why != "" {
		return gw, refusal{reasonNotReady, why}
	}
	switch {
	case t.gatewayAddress(gw) == nil:
		return gw, refusal{reasonNotReady, "it has no address yet"}
	case !t.admits(gw, from):
		return gw, refusal{reasonDenied, "its allowedRoutes do not admit namespace " + from}
	}
	return gw, t.wrongTraffic(gw, traffic)
}

// wrongTraffic is the refusal of a waypoint that is for other traffic.
func (t *Translator) wrongTraffic(gw *gatewayv1.Gateway, traffic string) refusal {
	if accepts := t.trafficOf(gw); accepts != "all" && accepts != traffic {
		return refusal{reasonTraffic, "it takes traffic for " + clip(accepts) + ", not for " + traffic}
	}
	return refusal{}
}

// admits reads allowedRoutes of the listener that takes the mesh's traffic: by default only the gateway's own namespace may
// use it.
func (t *Translator) admits(gw *gatewayv1.Gateway, from string) bool {
	l := t.meshListener(gw)
	if l == nil {
		return gw.Namespace == from
	}
	return t.allows(gw, l, from)
}

// meshListener is the listener of the inbound binding if there is one, or else that for HBONE.
func (t *Translator) meshListener(gw *gatewayv1.Gateway) *gatewayv1.Listener {
	find := func(match func(*gatewayv1.Listener) bool) *gatewayv1.Listener {
		for i := range gw.Spec.Listeners {
			if match(&gw.Spec.Listeners[i]) {
				return &gw.Spec.Listeners[i]
			}
		}
		return nil
	}
	if b := t.bindingOf(gw); b != nil {
		bound := find(func(l *gatewayv1.Listener) bool {
			if b.Port != 0 {
				return uint32(l.Port) == b.Port
			}
			return b.Protocol == workload.ApplicationTunnel_PROXY && l.Protocol == protocolProxy
		})
		if bound != nil {
			return bound
		}
	}
	return find(func(l *gatewayv1.Listener) bool { return l.Protocol == protocolHBONE && l.Port == hbonePort })
}

// allows reads allowedRoutes.namespaces of one listener.
func (t *Translator) allows(gw *gatewayv1.Gateway, l *gatewayv1.Listener, from string) bool {
	if l.AllowedRoutes != nil && l.AllowedRoutes.Namespaces != nil && l.AllowedRoutes.Namespaces.From != nil {
		switch *l.AllowedRoutes.Namespaces.From {
		case gatewayv1.NamespacesFromAll:
			return true
		case gatewayv1.NamespacesFromSelector:
			selector, err := metav1.LabelSelectorAsSelector(l.AllowedRoutes.Namespaces.Selector)
			return err == nil && selector.Matches(labels.Set(t.spaceLabels(from)))
		case gatewayv1.NamespacesFromNone:
			return false
		}
	}
	return gw.Namespace == from
}

// addressesOf are the addresses of a gateway that is ready: its status has none before. Those of an unmanaged one are given.
func (t *Translator) addressesOf(gw *gatewayv1.Gateway) []gatewayv1.GatewayStatusAddress {
	if len(gw.Status.Addresses) > 0 || t.controllerOf(string(gw.Spec.GatewayClassName)) != controllerUnmanaged {
		return gw.Status.Addresses
	}
	var out []gatewayv1.GatewayStatusAddress
	for _, a := range gw.Spec.Addresses {
		out = append(out, gatewayv1.GatewayStatusAddress(a))
	}
	return out
}

// gatewayAddress is where a gateway can be reached: its first host name, or else its first address; nil if nowhere yet.
func (t *Translator) gatewayAddress(gw *gatewayv1.Gateway) *workload.GatewayAddress {
	out := &workload.GatewayAddress{HboneMtlsPort: hbonePort}
	addresses := t.addressesOf(gw)
	for _, a := range addresses {
		if a.Type != nil && *a.Type == gatewayv1.HostnameAddressType && a.Value != "" {
			out.Destination = hostnameOf(gw.Namespace, a.Value)
			return out
		}
	}
	for _, a := range addresses {
		if ip, err := netip.ParseAddr(a.Value); err == nil && ip.Zone() == "" {
			out.Destination = addressOf(t.set.Network, ip)
			return out
		}
	}
	return nil
}

func hostnameOf(namespace, name string) *workload.GatewayAddress_Hostname {
	return &workload.GatewayAddress_Hostname{Hostname: &workload.NamespacedHostname{Namespace: namespace, Hostname: name}}
}

func addressOf(network string, ip netip.Addr) *workload.GatewayAddress_Address {
	return &workload.GatewayAddress_Address{Address: &workload.NetworkAddress{Network: network, Address: ip.Unmap().AsSlice()}}
}

// unusable is a waypoint that no proxy can resolve: a name below .invalid (RFC 2606). Only an entry in the gateway's namespace
// could give it a meaning, and whoever may write that there may make the gateway.
func unusable(gw objects.Key) *workload.GatewayAddress {
	return &workload.GatewayAddress{
		Destination:   hostnameOf(gw.Namespace, gw.Name+"."+gw.Namespace+".waypoint-not-ready.invalid"),
		HboneMtlsPort: hbonePort,
	}
}

func (t *Translator) bypasses(o metav1.Object) bool {
	return firstOf(o.GetAnnotations()[annotBypass], t.spaceAnnotations(o.GetNamespace())[annotBypass]) == "true"
}
