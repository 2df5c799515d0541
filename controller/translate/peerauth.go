package translate

import (
	"maps"
	"slices"

	"google.golang.org/protobuf/types/known/emptypb"
	securityapi "istio.io/api/security/v1beta1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"

	"github.com/ambit-mesh/ambit/controller/api/authz"
	"github.com/ambit-mesh/ambit/controller/objects"
)

const (
	staticStrict    = "istio_converted_static_strict"
	convertedPrefix = "converted_peer_authentication_"
)

// staticStrictUnit stands for the one policy that all strict workloads share.
var staticStrictUnit = objects.Key{Kind: objects.PeerAuthentication, Name: staticStrict}

// staticStrict is there as soon as any PeerAuthentication is.
func (t *Translator) staticStrict() unit {
	if len(t.in.peerAuths) == 0 {
		return unit{}
	}
	return unit{policies: []*authz.Authorization{{
		Name: staticStrict, Namespace: t.set.RootNamespace, Scope: authz.Scope_WORKLOAD_SELECTOR, Action: authz.Action_DENY,
		Groups: []*authz.Group{{Rules: []*authz.Rules{unauthenticated()}}},
	}}}
}

// unauthenticated matches peers without an identity.
func unauthenticated(ports ...uint32) *authz.Rules {
	return &authz.Rules{Matches: []*authz.Match{{NotPrincipals: []*authz.StringMatch{presence()}, DestinationPorts: ports}}}
}

func presence() *authz.StringMatch {
	return &authz.StringMatch{MatchType: &authz.StringMatch_Presence{Presence: &emptypb.Empty{}}}
}

// strictness is a mode with only the difference that matters here: to a node proxy, DISABLE is PERMISSIVE.
type strictness int

const (
	unset strictness = iota
	permissive
	strict
)

func mode(m *securityapi.PeerAuthentication_MutualTLS) strictness {
	switch m.GetMode() {
	case securityapi.PeerAuthentication_MutualTLS_STRICT:
		return strict
	case securityapi.PeerAuthentication_MutualTLS_PERMISSIVE, securityapi.PeerAuthentication_MutualTLS_DISABLE:
		return permissive
	default:
		return unset
	}
}

// parent is what holds in a namespace without a selector: the namespace's oldest policy, then the mesh's, then permissive.
func (t *Translator) parent(namespace string) strictness {
	for _, ns := range []string{namespace, t.set.RootNamespace} {
		if p := t.oldest(slices.Collect(maps.Keys(t.in.spaceWide[ns]))); p != nil {
			if m := mode(p.Spec.Mtls); m != unset {
				return m
			}
		}
	}
	return permissive
}

func (t *Translator) oldest(keys []objects.Key) *securityv1.PeerAuthentication {
	if len(keys) == 0 {
		return nil
	}
	key := keys[0]
	for _, k := range keys[1:] {
		if t.in.older(k, key) {
			key = k
		}
	}
	return get[*securityv1.PeerAuthentication](&t.in, key.Kind, key.Namespace, key.Name)
}

// strictPolicies names the DENY policies that enforce PeerAuthentication at a workload.
func (t *Translator) strictPolicies(namespace string, labels map[string]string) []string {
	base := t.parent(namespace)
	var own *securityv1.PeerAuthentication
	if namespace != t.set.RootNamespace {
		own = t.oldest(t.in.selectedBy(objects.PeerAuthentication, namespace, labels))
	}
	if own != nil {
		if m := mode(own.Spec.Mtls); m != unset {
			base = m
		}
		if len(exceptions(own, base)) > 0 {
			return []string{namespace + "/" + convertedPrefix + own.Name}
		}
	}
	if base == strict {
		return []string{t.set.RootNamespace + "/" + staticStrict}
	}
	return nil
}

// exceptions are the ports, in order, whose mode is not that of the rest.
func exceptions(p *securityv1.PeerAuthentication, base strictness) []uint32 {
	var out []uint32
	for port, m := range p.Spec.PortLevelMtls {
		if s := mode(m); s != unset && s != base && port > 0 && port < 1<<16 {
			out = append(out, port)
		}
	}
	slices.Sort(out)
	return out
}

// peerAuthentication converts a policy with port-level exceptions into a DENY of its own. All others are served by the
// static one.
func (t *Translator) peerAuthentication(key objects.Key) unit {
	p := get[*securityv1.PeerAuthentication](&t.in, key.Kind, key.Namespace, key.Name)
	ignored := ""
	switch selects := len(selectorOf(p)) > 0; {
	case selects && key.Namespace == t.set.RootNamespace:
		ignored = "in the root namespace a selector selects nothing: the policy has no effect"
	case !selects && len(p.Spec.PortLevelMtls) > 0:
		ignored = "portLevelMtls needs a selector: it is left out, and mtls holds for every port"
	case !selects:
		return unit{}
	}
	if ignored != "" {
		return unit{conditions: []objects.Condition{{Type: conditionZtunnel, Reason: reasonUnsupported, Message: ignored}}}
	}
	base := mode(p.Spec.Mtls)
	if base == unset {
		base = t.parent(key.Namespace)
	}
	ports := exceptions(p, base)
	if len(ports) == 0 {
		return unit{}
	}
	out := &authz.Authorization{
		Name: convertedPrefix + p.Name, Namespace: p.Namespace, Scope: authz.Scope_WORKLOAD_SELECTOR, Action: authz.Action_DENY,
	}
	if base == strict { // deny the unauthenticated, except on these ports
		group := &authz.Group{}
		for _, port := range ports {
			group.Rules = append(group.Rules, &authz.Rules{Matches: []*authz.Match{{NotDestinationPorts: []uint32{port}}}})
		}
		group.Rules = append(group.Rules, unauthenticated())
		out.Groups = append(out.Groups, group)
	} else { // deny the unauthenticated on these ports
		for _, port := range ports {
			out.Groups = append(out.Groups, &authz.Group{Rules: []*authz.Rules{unauthenticated(port)}})
		}
	}
	return unit{policies: []*authz.Authorization{out}}
}

// policiesOf names, in order, every policy that a workload must name: those with a selector that matches, of its own namespace
// and the root namespace, and those that enforce PeerAuthentication.
func (t *Translator) policiesOf(namespace string, labels map[string]string) []string {
	var out []string
	for _, ns := range slices.Compact([]string{namespace, t.set.RootNamespace}) {
		for _, key := range t.in.selectedBy(objects.AuthorizationPolicy, ns, labels) {
			if p := get[*securityv1.AuthorizationPolicy](&t.in, key.Kind, key.Namespace, key.Name); t.published(p) {
				out = append(out, key.Namespace+"/"+key.Name)
			}
		}
	}
	out = append(out, t.strictPolicies(namespace, labels)...)
	slices.Sort(out)
	return out
}
