package translate

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	securityapi "istio.io/api/security/v1beta1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"

	"github.com/ambit-mesh/ambit/controller/api/authz"
	"github.com/ambit-mesh/ambit/controller/objects"
)

const (
	annotDryRun       = "istio.io/dry-run"
	conditionZtunnel  = "ZtunnelAccepted"
	reasonAccepted    = "Accepted"
	reasonUnsupported = "UnsupportedValue"
)

// published reports policies that nodes get: neither those for waypoints nor actions that nodes do not know.
func (t *Translator) published(p *securityv1.AuthorizationPolicy) bool {
	return !targeted(p) && t.unpublished(p) == ""
}

func targeted(p *securityv1.AuthorizationPolicy) bool {
	return p.Spec.GetTargetRef() != nil || len(p.Spec.GetTargetRefs()) > 0
}

// unpublished says why nodes do not get a policy; "" if they do.
func (t *Translator) unpublished(p *securityv1.AuthorizationPolicy) string {
	switch p.Spec.Action {
	case securityapi.AuthorizationPolicy_ALLOW, securityapi.AuthorizationPolicy_DENY:
	default:
		return "action " + p.Spec.Action.String() + " is not enforced by node proxies"
	}
	if dryRun(p) && !t.set.PublishDryRun {
		return "dry run is switched off in this mesh"
	}
	return ""
}

func dryRun(p *securityv1.AuthorizationPolicy) bool {
	on, err := strconv.ParseBool(p.Annotations[annotDryRun])
	return err == nil && on
}

// authorizationPolicy makes the policy that node proxies enforce, and says what of it they cannot.
//
// What a node cannot check never widens an access: in an ALLOW the whole rule is left out, in a DENY the attribute is, so
// that the rule denies more. Istio drops a DENY clause's attributes too, but sends the empty clause, which never matches.
func (t *Translator) authorizationPolicy(key objects.Key) unit {
	p := get[*securityv1.AuthorizationPolicy](&t.in, key.Kind, key.Namespace, key.Name)
	if targeted(p) {
		return unit{conditions: []objects.Condition{t.targetCondition(key, p)}}
	}
	if why := t.unpublished(p); why != "" {
		return unit{conditions: []objects.Condition{{Type: conditionZtunnel, Reason: reasonUnsupported, Message: why}}}
	}
	out := &authz.Authorization{Name: p.Name, Namespace: p.Namespace, Scope: authz.Scope_NAMESPACE, DryRun: dryRun(p)}
	switch {
	case len(selectorOf(p)) > 0:
		out.Scope = authz.Scope_WORKLOAD_SELECTOR
	case p.Namespace == t.set.RootNamespace:
		out.Scope = authz.Scope_GLOBAL
	}
	deny := p.Spec.Action == securityapi.AuthorizationPolicy_DENY
	if deny {
		out.Action = authz.Action_DENY
	}
	var report findings
	unknown := objects.Unknown(p)
	for i, r := range p.Spec.Rules {
		rule := ruleTranslator{t: t, policy: p, deny: deny, path: fmt.Sprintf("rules[%d]", i), report: &report}
		if report.unknown(unknown, rule.path) && !deny {
			continue
		}
		out.Groups = append(out.Groups, rule.groups(r)...)
	}
	report.unknown(slices.DeleteFunc(unknown, func(f string) bool { return strings.HasPrefix(f, "spec.rules[") }), "")
	if deny && len(p.Spec.Rules) == 0 {
		return unit{policies: []*authz.Authorization{out}, conditions: []objects.Condition{{
			Type: conditionZtunnel, Status: true, Reason: reasonUnsupported, Message: "a DENY without rules denies nothing",
		}}}
	}
	c := report.condition(deny, len(out.Groups))
	if out.DryRun {
		c.Message += "; a dry run: it is logged and not enforced"
	}
	return unit{policies: []*authz.Authorization{out}, conditions: []objects.Condition{c}}
}

// findings are what of a policy could not be translated.
type findings struct{ list []string }

func (f *findings) add(path, why string) { f.list = append(f.list, path+": "+why) }

// unknown notes the fields below a path that a later API may know and we do not, and reports whether there are any.
func (f *findings) unknown(fields []string, path string) bool {
	before := len(f.list)
	for _, field := range fields {
		if field = strings.TrimPrefix(field, "spec."); strings.HasPrefix(field, path) {
			f.add(clip(field), "a field that is not known here")
		}
	}
	return len(f.list) > before
}

// condition tells the owner what came of the policy.
func (f *findings) condition(deny bool, groups int) objects.Condition {
	c := objects.Condition{Type: conditionZtunnel, Status: true, Reason: reasonAccepted, Message: "accepted by node proxies"}
	if len(f.list) == 0 {
		return c
	}
	const most = 10
	list := f.list
	if len(list) > most {
		list = append(list[:most:most], fmt.Sprintf("and %d more", len(f.list)-most))
	}
	c.Reason = reasonUnsupported
	effect := "rules with attributes that node proxies cannot check are left out, so less is allowed"
	switch {
	case deny:
		effect = "attributes that node proxies cannot check are left out, so more is denied"
	case groups == 0:
		effect = "no rule is left that node proxies can check, so nothing is allowed"
	}
	c.Message = effect + ": " + strings.Join(list, "; ")
	return c
}
