package validate

import (
	"fmt"
	"sync"

	extensionsv1alpha1 "istio.io/client-go/pkg/apis/extensions/v1alpha1"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	networkingv1alpha3 "istio.io/client-go/pkg/apis/networking/v1alpha3"
	networkingv1beta1 "istio.io/client-go/pkg/apis/networking/v1beta1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	telemetryv1 "istio.io/client-go/pkg/apis/telemetry/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/ambit-mesh/ambit/controller/objects"
	"github.com/ambit-mesh/ambit/controller/strict"
)

// groups are the API groups of the mesh, each with the versions to decode with, the best first: they hold the same fields.
var groups = map[string][]string{
	"":                          {"v1"},
	"security.istio.io":         {"v1"},
	"networking.istio.io":       {"v1", "v1beta1", "v1alpha3"},
	"telemetry.istio.io":        {"v1"},
	"extensions.istio.io":       {"v1alpha1"},
	"gateway.networking.k8s.io": {"v1"},
}

var scheme = sync.OnceValue(func() *runtime.Scheme {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, securityv1.AddToScheme, networkingv1.AddToScheme, networkingv1beta1.AddToScheme,
		networkingv1alpha3.AddToScheme, telemetryv1.AddToScheme, extensionsv1alpha1.AddToScheme, gatewayv1.Install,
	} {
		if err := add(s); err != nil {
			panic(fmt.Sprintf("validate: scheme: %v", err)) // two libraries in conflict, whatever the input
		}
	}
	return s
})

// newObject is an empty object to decode into; nil for kinds that do not concern the mesh. Of the core group only those whose
// labels and annotations do.
func newObject(apiVersion, kind string) objects.Object {
	gv, err := schema.ParseGroupVersion(apiVersion)
	if err != nil {
		return nil
	}
	if gv.Group == "" && kind != "Namespace" && kind != "Pod" && kind != "Service" && kind != "Node" && kind != "ServiceAccount" {
		return nil
	}
	for _, version := range groups[gv.Group] {
		o, err := scheme().New(schema.GroupVersionKind{Group: gv.Group, Version: version, Kind: kind})
		if err != nil {
			continue
		}
		if obj, ok := o.(objects.Object); ok { // else a list
			return obj
		}
	}
	return nil
}

// spec checks what is particular to the kind.
func (c *check) spec(o objects.Object) {
	switch o := o.(type) {
	case *securityv1.AuthorizationPolicy:
		c.authorizationPolicy(o)
	case *securityv1.PeerAuthentication:
		c.peerAuthentication(o)
	case *securityv1.RequestAuthentication:
		c.requestAuthentication(o)
	case *networkingv1.ServiceEntry:
		c.serviceEntry(o)
	case *networkingv1.WorkloadEntry:
		c.workloadEntry(spec(), &o.Spec)
	case *networkingv1.VirtualService:
		c.virtualService(o)
	case *networkingv1.DestinationRule:
		c.destinationRule(o)
	case *networkingv1.Gateway:
		c.istioGateway(o)
	case *telemetryv1.Telemetry:
		c.telemetry(o)
	case *gatewayv1.Gateway:
		c.gateway(o)
	case *gatewayv1.HTTPRoute:
		c.httpRoute(o)
	case *gatewayv1.GRPCRoute:
		c.grpcRoute(o)
	case *corev1.Service:
		c.service(o)
	case *corev1.Pod:
		c.pod(o)
	default:
		c.unsupported(o)
	}
}

// unsupported names kinds of Istio that an ambient mesh has no use for.
func (c *check) unsupported(o objects.Object) {
	why := map[string]string{
		"*v1.Sidecar":           "configures sidecars, of which an ambient mesh has none: it has no effect",
		"*v1alpha3.EnvoyFilter": "patches Envoy, which this mesh does not run: it has no effect",
		"*v1beta1.ProxyConfig":  "configures Envoy, which this mesh does not run: it has no effect",
		"*v1alpha1.WasmPlugin":  "extends Envoy, which this mesh does not run: it has no effect",
		"*v1.WorkloadGroup":     "registers machines with sidecars, of which an ambient mesh has none: it has no effect",
	}[fmt.Sprintf("%T", o)]
	use := map[string]string{
		"*v1.Sidecar":       "for egress rules use an AuthorizationPolicy at the destination, or a waypoint",
		"*v1.WorkloadGroup": "use a WorkloadEntry for each machine",
	}[fmt.Sprintf("%T", o)]
	if why != "" {
		c.warn(field.NewPath("kind"), use, "%s", why)
	}
}

// unfamiliar looks at an object whose kind is none of the mesh's.
func unfamiliar(d *strict.Document, h strict.Header) []Finding {
	if _, ours := groups[h.Group()]; ours && h.Group() != "" {
		var names []string
		for _, version := range groups[h.Group()] {
			for kind := range scheme().KnownTypes(schema.GroupVersion{Group: h.Group(), Version: version}) {
				names = append(names, kind)
			}
		}
		f := Finding{Severity: Error, Field: "kind", Message: fmt.Sprintf("kind %s of %s is not known", clip(h.Kind), clip(h.APIVersion)), Unknown: true}
		if near := strict.Nearest(h.Kind, names); near != "" {
			f.Suggestion = fmt.Sprintf("did you mean %q?", near)
		}
		return []Finding{f}
	}
	c := &check{}
	c.foreign(d, h.Kind)
	return c.out
}
