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
	// annotBypass lets traffic pass by a waypoint that is not there, as Istio does.
	annotBypass = "ambit.io/bypass-missing-waypoint"

	conditionBound = "istio.io/WaypointBound"
	hbonePort      = 15008
)

// request is a waypoint an object asks for.
type request struct {
	gateway   objects.Key
	inherited bool // from the namespace
}

// serviceWaypoint is the waypoint of a Service or ServiceEntry, and the condition that tells about it.
//
// A waypoint that was asked for and cannot be used is published under a name that does not resolve, so that every proxy
// refuses instead of passing by the policies that the waypoint would enforce.
func (t *Translator) serviceWaypoint(key objects.Key, o metav1.Object) (*workload.GatewayAddress, []objects.Condition) {
	req, ok := t.request(key, o)
	if !ok {
		return nil, nil
	}
	gw, reason := t.usable(req, o.GetNamespace(), "service")
	name := req.gateway.Namespace + "/" + req.gateway.Name
	if reason == "" {
		return gatewayAddress(gw, t.set.Network), []objects.Condition{{Type: conditionBound, Status: true, Reason: "WaypointAccepted", Message: "bound to " + name}}
	}
	c := objects.Condition{Type: conditionBound, Reason: reason, Message: "waypoint " + name + " cannot be used; connections are refused until it can"}
	if t.bypasses(o) || req.inherited && reason == reasonTraffic {
		c.Message = "waypoint " + name + " cannot be used; connections go past it"
		return nil, []objects.Condition{c}
	}
	return unusable(req.gateway), []objects.Condition{c}
}

// workloadWaypoint is the waypoint for traffic to the workload's own address. A waypoint that the namespace names for services
// is none.
func (t *Translator) workloadWaypoint(key objects.Key, o metav1.Object) *workload.GatewayAddress {
	req, ok := t.request(key, o)
	if !ok {
		return nil
	}
	gw, reason := t.usable(req, o.GetNamespace(), "workload")
	switch {
	case reason == "":
		return gatewayAddress(gw, t.set.Network)
	case req.inherited && (gw == nil || reason == reasonTraffic):
		return nil // by default waypoints are for services; the services' own entries refuse
	case t.bypasses(o):
		return nil
	default:
		return unusable(req.gateway)
	}
}

const (
	reasonNotReady = "WaypointIsNotReady"
	reasonDenied   = "AttachmentDenied"
	reasonTraffic  = "UnsupportedTrafficType"
)

// request reads the labels of the object, then those of its namespace.
func (t *Translator) request(key objects.Key, o metav1.Object) (request, bool) {
	if m := o.GetLabels()[labelManaged]; m == "istio.io-mesh-controller" || m == "istio.io-eastwest-controller" {
		return request{}, false
	}
	labels, inherited := o.GetLabels(), false
	if labels[labelUseWaypoint] == "" {
		labels, inherited = t.spaceLabels(o.GetNamespace()), true
	}
	name := labels[labelUseWaypoint]
	if name == "" || name == "none" {
		return request{}, false
	}
	gw := objects.Key{Kind: objects.Gateway, Namespace: firstOf(labels[labelUseWaypointSpace], o.GetNamespace()), Name: name}
	t.in.bound.put(gw, key)
	t.in.asked.put(key, gw)
	return request{gw, inherited}, true
}

// usable checks the gateway; reason is empty if it may be used for that kind of traffic by that namespace.
func (t *Translator) usable(req request, from, traffic string) (gw *gatewayv1.Gateway, reason string) {
	gw = get[*gatewayv1.Gateway](&t.in, req.gateway.Kind, req.gateway.Namespace, req.gateway.Name)
	if gw == nil || gatewayAddress(gw, t.set.Network) == nil {
		return nil, reasonNotReady
	}
	if !t.admits(gw, from) {
		return gw, reasonDenied
	}
	if accepts := firstOf(gw.Labels[labelWaypointFor], "service"); accepts != "all" && accepts != traffic {
		return gw, reasonTraffic
	}
	return gw, ""
}

// admits reads allowedRoutes of the listener that takes HBONE: by default only the gateway's own namespace may use it.
func (t *Translator) admits(gw *gatewayv1.Gateway, from string) bool {
	for _, l := range gw.Spec.Listeners {
		if l.Port != hbonePort || l.Protocol != "HBONE" || l.AllowedRoutes == nil || l.AllowedRoutes.Namespaces == nil || l.AllowedRoutes.Namespaces.From == nil {
			continue
		}
		switch *l.AllowedRoutes.Namespaces.From {
		case gatewayv1.NamespacesFromAll:
			return true
		case gatewayv1.NamespacesFromSelector:
			selector, err := metav1.LabelSelectorAsSelector(l.AllowedRoutes.Namespaces.Selector)
			return err == nil && selector.Matches(labels.Set(t.spaceLabels(from)))
		}
	}
	return gw.Namespace == from
}

// gatewayAddress is where a gateway that is ready can be reached: its first host name, or else its first address.
func gatewayAddress(gw *gatewayv1.Gateway, network string) *workload.GatewayAddress {
	out := &workload.GatewayAddress{HboneMtlsPort: hbonePort}
	for _, a := range gw.Status.Addresses {
		if a.Type != nil && *a.Type == gatewayv1.HostnameAddressType {
			out.Destination = &workload.GatewayAddress_Hostname{Hostname: &workload.NamespacedHostname{Namespace: gw.Namespace, Hostname: a.Value}}
			return out
		}
	}
	for _, a := range gw.Status.Addresses {
		if ip, err := netip.ParseAddr(a.Value); err == nil {
			out.Destination = &workload.GatewayAddress_Address{Address: &workload.NetworkAddress{Network: network, Address: ip.Unmap().AsSlice()}}
			return out
		}
	}
	return nil
}

// unusable is a waypoint that no proxy can resolve: a name below .invalid (RFC 2606), which no service can have.
func unusable(gw objects.Key) *workload.GatewayAddress {
	return &workload.GatewayAddress{
		Destination: &workload.GatewayAddress_Hostname{Hostname: &workload.NamespacedHostname{
			Namespace: gw.Namespace, Hostname: gw.Name + "." + gw.Namespace + ".waypoint-not-ready.invalid",
		}},
		HboneMtlsPort: hbonePort,
	}
}

func (t *Translator) bypasses(o metav1.Object) bool {
	return firstOf(o.GetAnnotations()[annotBypass], t.spaceAnnotations(o.GetNamespace())[annotBypass]) == "true"
}

// forget drops what a unit asked for the last time it was made.
func (t *Translator) forget(key objects.Key) {
	for gw := range t.in.asked[key] {
		t.in.bound.drop(gw, key)
	}
	delete(t.in.asked, key)
}
