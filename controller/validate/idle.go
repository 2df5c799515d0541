package validate

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// idleKey is a label or annotation of Istio that asks for something which this mesh does not do.
type idleKey struct {
	key      string
	what     string   // "label", "annotation"; "" for both
	unless   []string // values that ask for nothing
	severity Severity // Warning where its author will miss something, Info where nothing is lost
	why      string
	use      string // what to do instead; "" for nothing
}

const noSidecars = "configures sidecars, of which an ambient mesh has none: it does nothing"

var idleKeys = []idleKey{
	{key: "istio.io/rev", what: "label", severity: Info, why: "this mesh has no revisions: the object counts whatever it says"},
	{key: "istio.io/global", unless: []string{"false"}, severity: Warning, why: "services of other clusters are not looked for: it does nothing"},
	{key: "istio/multiCluster", severity: Warning, why: "other clusters' API servers are not read: it does nothing"},
	{key: "istio.io/draining", severity: Warning, why: "node proxies do not read it, Istio's neither: connections go on to the workload", use: "let the pod fail its readiness probe"},
	{key: "networking.istio.io/gatewayPort", severity: Warning, why: "gateways to other networks are told by Gateways, not by Services: it does nothing", use: "write a Gateway of class istio-remote"},
	{key: "topology.istio.io/locality", severity: Warning, why: "a workload's place is its node's, or a WorkloadEntry's locality: it does nothing", use: "label the node topology.kubernetes.io/region and zone"},
	{key: "topology.istio.io/controlPlaneClusters", severity: Warning, why: "other clusters have a control plane of their own: it does nothing"},
	{key: "sidecar.istio.io/inject", unless: []string{"false"}, severity: Warning, why: "asks for a sidecar, which this mesh does not inject: it does nothing", use: "remove it, or label the pod istio.io/dataplane-mode: none to keep it out of the mesh"},
	{key: "istio.io/reroute-virtual-interfaces", severity: Warning, why: "connections that come in by these interfaces are not captured: what a virtual machine in the pod sends leaves in the clear", use: "annotate the pod ambit.io/strict-capture: \"true\", which drops what is TCP"},
	{key: "istio.io/workloadController", severity: Warning, why: "istiod keeps up such entries, this mesh does not: it stays as it is when the machine is gone", use: "delete it with the machine"},
	{key: "networking.istio.io/service-type", severity: Warning, why: "gateways are not deployed by this mesh: it does nothing"},
	{key: "networking.istio.io/address-type", severity: Warning, why: "gateways are not deployed by this mesh: it does nothing"},
	{key: "gateway.istio.io/defaults-for-class", severity: Warning, why: "gateways are not deployed by this mesh: it does nothing"},
	{key: "ambient.istio.io/xfcc-include-client-identity", severity: Warning, why: "waypoints are not deployed by this mesh: it is read by Istio's alone"},
	{key: "traffic.istio.io/nodeSelector", severity: Warning, why: "gateways to other networks are told by Gateways, not by Services: it does nothing", use: "write a Gateway of class istio-remote"},
	{key: "kubernetes.io/ingress.class", unless: []string{""}, severity: Info, why: "Ingress objects are not read by this mesh"},
	{key: "alpha.istio.io/canonical-serviceaccounts", severity: Warning, why: "identities are pods' own service accounts: it does nothing"},
	{key: "alpha.istio.io/kubernetes-serviceaccounts", severity: Warning, why: "identities are pods' own service accounts: it does nothing"},
	{key: "prometheus.istio.io/merge-metrics", severity: Warning, why: noSidecars, use: "let Prometheus scrape the pod itself"},
}

// sidecarDomains are the domains of which every key configures sidecars, but for those that marks has.
var sidecarDomains = []string{
	"sidecar.istio.io", "traffic.sidecar.istio.io", "status.sidecar.istio.io", "readiness.status.sidecar.istio.io", "proxy.istio.io", "inject.istio.io",
}

// idleMark finds what there is to say of a label or an annotation that does nothing here; nil if it is not one of these.
func idleMark(what, key string) *idleKey {
	for i := range idleKeys {
		if k := &idleKeys[i]; k.key == key && (k.what == "" || k.what == what) {
			return k
		}
	}
	if domain, _, _ := strings.Cut(key, "/"); what == "annotation" && slices.Contains(sidecarDomains, domain) {
		return &idleKey{key: key, severity: Warning, why: noSidecars}
	}
	return nil
}

func (c *check) idle(p *field.Path, kind, value string, k *idleKey) {
	switch {
	case slices.Contains(k.unless, value):
	case k.key == "kubernetes.io/ingress.class" && (kind != "Ingress" || !strings.Contains(value, "istio")):
	default:
		c.add(k.severity, p, k.use, k.why)
	}
}
