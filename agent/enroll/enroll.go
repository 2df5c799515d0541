// Package enroll answers one question: does this pod belong to the mesh, and why? It is pure: values in, a Decision out.
// The agent's reconcile loop and its CNI server call it, so that both say the same; it finds and changes nothing.
//
// The order is that of Istio's agent (control-plane.md 1.2): what can never be enrolled first, then the enablement
// selectors, then what the mesh would want but cannot do, which is refused rather than left unprotected in silence.
package enroll

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ambit-mesh/ambit/agent/pods"
)

// Labels and annotations that are read here.
const (
	labelMode         = "istio.io/dataplane-mode"
	labelApp          = "app"
	annotationBypass  = "ambient.istio.io/bypass-inbound-capture"
	annotationDNS     = "ambient.istio.io/dns-capture"
	annotationStrict  = "ambit.io/strict-capture" // on pods and namespaces; pod beats namespace beats node
	annotationReroute = "istio.io/reroute-virtual-interfaces"
)

// sidecars are what injectors write on a pod that got a proxy: Istio's, Linkerd's, Kuma's and Consul's. An empty value: any.
var sidecars = []struct{ annotation, value string }{
	{"sidecar.istio.io/status", ""},
	{"linkerd.io/proxy-version", ""},
	{"kuma.io/sidecar-injected", "true"},
	{"consul.hashicorp.com/connect-inject-status", "injected"},
}

// Ports are the mesh's own in each enrolled pod: 15001 outbound, 15006 inbound, 15008 HBONE, 15053 DNS.
var meshPorts = []uint16{15001, 15006, 15008, 15053}

// MeshPorts are the ports that an application of an enrolled pod may not use.
func MeshPorts() []uint16 { return slices.Clone(meshPorts) }

// Verdict is the outcome. The zero value is Refused: in doubt a pod does not start outside the mesh.
type Verdict int

const (
	// Refused: the pod belongs to the mesh and cannot be enrolled. It must not run unprotected.
	Refused Verdict = iota
	// Enrolled: its traffic goes through the mesh.
	Enrolled
	// Outside: the mesh leaves it alone.
	Outside
)

func (v Verdict) String() string {
	switch v {
	case Enrolled:
		return "enrolled"
	case Outside:
		return "outside"
	default:
		return "refused"
	}
}

// Reason says why, for logs, metrics and people. The set is closed.
type Reason string

const (
	Selected          Reason = "Selected"          // an enablement selector matches
	NotSelected       Reason = "NotSelected"       // none does
	HostNetwork       Reason = "HostNetwork"       // the pod has no network namespace of its own
	HasSidecar        Reason = "HasSidecar"        // an injected sidecar already takes its traffic
	NamespaceExcluded Reason = "NamespaceExcluded" // on the node's exclude list
	NodeProxy         Reason = "NodeProxy"         // a ztunnel cannot be its own customer
	Finished          Reason = "Finished"          // no container will run again
	NamespaceUnknown  Reason = "NamespaceUnknown"  // its namespace's labels are not known
	MeshPortDeclared  Reason = "MeshPortDeclared"  // a container declares a port that the mesh needs
	OtherMesh         Reason = "OtherMesh"         // another mesh of the node takes the pods that belong to this one
	ForeignHooks      Reason = "ForeignHooks"      // another program on the node rewrites connections before us
	BadAnnotation     Reason = "BadAnnotation"     // an annotation of ours that cannot be read
)

// Reasons are all of them.
func Reasons() []Reason {
	return []Reason{
		Selected, NotSelected, HostNetwork, HasSidecar, NamespaceExcluded, NodeProxy, Finished, NamespaceUnknown,
		MeshPortDeclared, OtherMesh, ForeignHooks, BadAnnotation,
	}
}

// Node is what the decision depends on besides pod and namespace.
type Node struct {
	SystemNamespace    string // where the ztunnels run
	ExcludedNamespaces []string
	Selectors          []Selector // any match enrols
	CaptureDNS         bool       // unless the pod says otherwise
	StrictCapture      bool       // unless the namespace or the pod says otherwise
	OtherMeshes        []string   // that take pods by the same labels, and what to do
	ForeignHooks       []string   // programs that would rewrite destinations before ours, and the setting to change
}

// Decision is the answer and its explanation.
type Decision struct {
	Verdict Verdict
	Reason  Reason
	Detail  string // for people: what exactly, and what to do
	// How an enrolled pod is captured.
	DNS           bool
	BypassInbound bool
	Strict        bool
	// Unheeded is what the pod asks for and does not get, for people; "" for nothing.
	Unheeded string
	// Asked: the pod is left outside although its labels ask for the mesh. People are told.
	Asked bool
}

// Decide judges one pod. namespace is nil when it is not known.
func Decide(p *pods.Pod, namespace *pods.Namespace, node Node) Decision {
	asked := namespace != nil && slices.ContainsFunc(node.Selectors, func(s Selector) bool { return s.Matches(p.Labels, namespace.Labels) })
	sidecar := sidecarOf(p)
	switch {
	case p.HostNetwork:
		return outside(HostNetwork, "pods on the host's network are never enrolled")
	case sidecar != "":
		d := outside(HasSidecar, "annotation "+sidecar+" says that a sidecar was injected; restart the pod without injection to bring it in")
		d.Asked = asked
		return d
	case slices.Contains(node.ExcludedNamespaces, p.Key.Namespace):
		return outside(NamespaceExcluded, "namespace "+p.Key.Namespace+" is on the agent's exclude list")
	case p.Key.Namespace == node.SystemNamespace && (p.Labels[labelApp] == "ztunnel" || p.Labels[labelApp] == "ambit-ztunnel"):
		return outside(NodeProxy, "label "+labelApp+"="+p.Labels[labelApp]+" in the system namespace")
	case p.Done():
		return outside(Finished, "phase "+string(p.Phase))
	case namespace == nil:
		return Decision{Reason: NamespaceUnknown, Detail: "namespace " + p.Key.Namespace + " is not known yet"}
	}
	if !asked {
		return outside(NotSelected, "no enablement selector matches; label the namespace or pod "+labelMode+"=ambient to enrol it")
	}
	if len(node.OtherMeshes) > 0 {
		d := outside(OtherMesh, strings.Join(node.OtherMeshes, "; "))
		d.Asked = true
		return d
	}
	return capture(p, namespace, node)
}

// capture decides how a pod that belongs to the mesh is captured, or why it cannot be.
func capture(p *pods.Pod, namespace *pods.Namespace, node Node) Decision {
	d := Decision{Verdict: Enrolled, Reason: Selected, DNS: node.CaptureDNS, Strict: node.StrictCapture}
	if err := readBool(namespace.Labels, annotationStrict, &d.Strict); err != nil {
		return refused(BadAnnotation, fmt.Sprintf("namespace label %v", err))
	}
	for _, a := range []struct {
		key string
		to  *bool
	}{{annotationStrict, &d.Strict}, {annotationBypass, &d.BypassInbound}, {annotationDNS, &d.DNS}} {
		if err := readBool(p.Annotations, a.key, a.to); err != nil {
			return refused(BadAnnotation, fmt.Sprintf("annotation %v", err))
		}
	}
	for _, port := range p.Ports {
		if slices.Contains(meshPorts, port) {
			return refused(MeshPortDeclared, fmt.Sprintf("a container declares port %d, which the mesh uses in enrolled pods (%v)", port, meshPorts))
		}
	}
	if len(node.ForeignHooks) > 0 {
		return refused(ForeignHooks, strings.Join(node.ForeignHooks, "; "))
	}
	d.Detail = "an enablement selector matches"
	if p.Annotations[annotationReroute] != "" && !d.Strict {
		d.Unheeded = "annotation " + annotationReroute + " is not heeded: what enters the pod by such interfaces leaves it in the clear; " + annotationStrict + "=true drops what is TCP"
	}
	return d
}

func readBool(from map[string]string, key string, to *bool) error {
	text, ok := from[key]
	if !ok {
		return nil
	}
	v, err := strconv.ParseBool(text)
	if err != nil {
		return fmt.Errorf("%s=%.64q is neither true nor false", key, text)
	}
	*to = v
	return nil
}

// sidecarOf is the annotation by which a sidecar is known; "" is none.
func sidecarOf(p *pods.Pod) string {
	for _, s := range sidecars {
		if value, there := p.Annotations[s.annotation]; there && (s.value == "" || s.value == value) {
			return s.annotation
		}
	}
	return ""
}

func outside(r Reason, detail string) Decision {
	return Decision{Verdict: Outside, Reason: r, Detail: detail}
}

func refused(r Reason, detail string) Decision {
	return Decision{Verdict: Refused, Reason: r, Detail: detail}
}
