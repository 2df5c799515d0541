package validate

import (
	typeapi "istio.io/api/type/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

const maxTargets = 16

// attachment is how a policy says what it applies to.
type attachment struct {
	selector *typeapi.WorkloadSelector
	ref      *typeapi.PolicyTargetReference
	refs     []*typeapi.PolicyTargetReference
}

// targeted: waypoints and gateways enforce it, node proxies do not.
func (a attachment) targeted() bool { return a.ref != nil || len(a.refs) > 0 }

// attached checks what a policy applies to, and says so where it is the whole mesh.
func (c *check) attached(o metav1.Object, a attachment) {
	if a.selector != nil && a.targeted() {
		c.fail(spec("selector"), "keep targetRefs for what waypoints and gateways enforce, selector for what node proxies do", "selector and targetRefs exclude each other")
	}
	if a.ref != nil && len(a.refs) > 0 {
		c.fail(spec("targetRef"), "keep targetRefs: targetRef is its older form", "targetRef and targetRefs exclude each other")
	}
	c.labels(spec("selector", "matchLabels"), a.selector.GetMatchLabels())
	if a.ref != nil {
		c.target(spec("targetRef"), o, a.ref)
	}
	if len(a.refs) > maxTargets {
		c.fail(spec("targetRefs"), "make several policies", "%d targets: want at most %d", len(a.refs), maxTargets)
	}
	for i, ref := range a.refs {
		c.target(spec("targetRefs").Index(i), o, ref)
	}
	switch {
	case a.targeted():
	case len(a.selector.GetMatchLabels()) == 0 && o.GetNamespace() == c.root:
		c.info(spec(), "", "in the root namespace %s and without a selector it applies to the whole mesh", c.root)
	case len(a.selector.GetMatchLabels()) == 0 && a.selector != nil:
		c.info(spec("selector"), "", "an empty selector selects every workload of the namespace")
	}
}

func (c *check) target(p *field.Path, o metav1.Object, ref *typeapi.PolicyTargetReference) {
	if ref.GetName() == "" {
		c.fail(p.Child("name"), "", "a name is required")
	}
	if ns := ref.GetNamespace(); ns != "" && ns != o.GetNamespace() && o.GetNamespace() != "" {
		c.fail(p.Child("namespace"), "put the policy into the namespace of its target", "a target in another namespace is not allowed")
	}
	groups := map[string]string{"Gateway": "gateway.networking.k8s.io", "GatewayClass": "gateway.networking.k8s.io", "Service": "", "ServiceEntry": "networking.istio.io"}
	group, known := groups[ref.GetKind()]
	if !known {
		c.fail(p.Child("kind"), oneOf(ref.GetKind(), "Gateway", "GatewayClass", "Service", "ServiceEntry"), "kind %q cannot be a target", clip(ref.GetKind()))
		return
	}
	if g := ref.GetGroup(); g != group && (group != "" || g != "core") {
		c.fail(p.Child("group"), "use \""+group+"\"", "group %q has no kind %s", clip(g), ref.GetKind())
	}
	if ref.GetKind() == "GatewayClass" {
		if o.GetNamespace() != c.root && o.GetNamespace() != "" {
			c.fail(p.Child("kind"), "put the policy into "+c.root, "only policies in the root namespace may be for every gateway of a class")
		}
		if ref.GetName() != "istio-waypoint" {
			c.warn(p.Child("name"), `use "istio-waypoint"`, "class %q is not one of the mesh's waypoints", clip(ref.GetName()))
		}
	}
}
