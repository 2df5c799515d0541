package translate

import (
	"strconv"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/ambit-mesh/ambit/controller/api/workload"
	"github.com/ambit-mesh/ambit/controller/objects"
)

const (
	controllerGateway   = "istio.io/gateway-controller"
	controllerWaypoint  = "istio.io/mesh-controller"
	controllerEastWest  = "istio.io/eastwest-controller"
	controllerUnmanaged = "istio.io/unmanaged-gateway"

	classRemote = "istio-remote"

	hbonePort     = 15008
	protocolHBONE = gatewayv1.ProtocolType("HBONE")
	protocolProxy = gatewayv1.ProtocolType("istio.io/PROXY") // of a waypoint behind a node proxy

	annotBinding = "ambient.istio.io/waypoint-inbound-binding"
)

// builtinClasses are those that an installation makes if they are missing.
var builtinClasses = map[string]string{
	"istio": controllerGateway, "istio-waypoint": controllerWaypoint, "istio-east-west": controllerEastWest, classRemote: controllerUnmanaged,
}

func classKey(name string) objects.Key { return objects.Key{Kind: objects.GatewayClass, Name: name} }

func gatewayKey(namespace, name string) objects.Key {
	return objects.Key{Kind: objects.Gateway, Namespace: namespace, Name: name}
}

func (t *Translator) classOf(gw *gatewayv1.Gateway) *gatewayv1.GatewayClass {
	return get[*gatewayv1.GatewayClass](&t.in, objects.GatewayClass, "", string(gw.Spec.GatewayClassName))
}

// controllerOf is the controller name of a class; "" for one that is not there.
func (t *Translator) controllerOf(class string) string {
	if c := get[*gatewayv1.GatewayClass](&t.in, objects.GatewayClass, "", class); c != nil {
		return string(c.Spec.ControllerName)
	}
	return builtinClasses[class]
}

// ours reports controllers whose Gateways the mesh reports on. Ingress gateways are not among them yet.
func ours(controller string) bool {
	return controller == controllerWaypoint || controller == controllerEastWest || controller == controllerUnmanaged
}

// trafficOf is which traffic a waypoint takes: "service", "workload", "all" or "none".
func (t *Translator) trafficOf(gw *gatewayv1.Gateway) string {
	class := ""
	if c := t.classOf(gw); c != nil {
		class = c.Labels[labelWaypointFor]
	}
	return firstOf(gw.Labels[labelWaypointFor], class, "service")
}

// bindingOf is how instances of a waypoint want traffic from their node proxy; nil for the usual way. A value that cannot be
// read is none, as in Istio.
func (t *Translator) bindingOf(gw *gatewayv1.Gateway) *workload.ApplicationTunnel {
	text, ok := gw.Annotations[annotBinding]
	if c := t.classOf(gw); !ok && c != nil {
		text, ok = c.Annotations[annotBinding]
	}
	if !ok {
		return nil
	}
	protocol, port, hasPort := strings.Cut(text, "/")
	out := &workload.ApplicationTunnel{}
	switch protocol {
	case "NONE":
	case "PROXY":
		out.Protocol = workload.ApplicationTunnel_PROXY
	default:
		return nil
	}
	if hasPort {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			return nil
		}
		out.Port = uint32(n)
	}
	return out
}

// instanceOf is the waypoint that a pod is an instance of; nil for most pods.
func (t *Translator) instanceOf(namespace string, labels map[string]string) *gatewayv1.Gateway {
	name := labels[labelGatewayName]
	if name == "" {
		return nil
	}
	gw := get[*gatewayv1.Gateway](&t.in, objects.Gateway, namespace, name)
	if gw == nil || t.noWaypoint(gw) != "" {
		return nil
	}
	return gw
}

// noWaypoint says why a Gateway can never be a waypoint; "" if it can. Of classes that the mesh does not know any may.
func (t *Translator) noWaypoint(gw *gatewayv1.Gateway) string {
	controller := t.controllerOf(string(gw.Spec.GatewayClassName))
	if controller == controllerEastWest {
		return "class " + clip(string(gw.Spec.GatewayClassName)) + " makes gateways between networks, no waypoints"
	}
	if controller != controllerGateway {
		return ""
	}
	for _, l := range gw.Spec.Listeners {
		if l.Protocol == protocolHBONE || l.Protocol == protocolProxy {
			return ""
		}
	}
	return "class " + clip(string(gw.Spec.GatewayClassName)) + " makes ingress gateways, and no listener is for HBONE"
}
