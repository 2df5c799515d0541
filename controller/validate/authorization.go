package validate

import (
	"strconv"

	securityapi "istio.io/api/security/v1beta1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func (c *check) authorizationPolicy(p *securityv1.AuthorizationPolicy) {
	s := &p.Spec
	at := attachment{s.GetSelector(), s.GetTargetRef(), s.GetTargetRefs()}
	c.attached(p, at)
	c.provider(s)
	node := !at.targeted()
	switch action := s.GetAction(); {
	case action == securityapi.AuthorizationPolicy_ALLOW, action == securityapi.AuthorizationPolicy_DENY:
	case node:
		c.warn(spec("action"), "attach it to a waypoint or gateway with targetRefs", "%s is not enforced by node proxies: the policy has no effect", action)
		node = false
	}
	if v, ok := p.Annotations["istio.io/dry-run"]; ok {
		if _, err := strconv.ParseBool(v); err != nil {
			c.warn(field.NewPath("metadata", "annotations").Key("istio.io/dry-run"), `use "true" or "false"`, "%q is not a boolean: the policy is enforced", clip(v))
		}
	}
	c.noRules(s)
	for i, r := range s.GetRules() {
		(&rule{check: c, at: spec("rules").Index(i), action: s.GetAction(), node: node}).all(r)
	}
}

func (c *check) noRules(s *securityapi.AuthorizationPolicy) {
	if len(s.GetRules()) > 0 {
		return
	}
	switch s.GetAction() {
	case securityapi.AuthorizationPolicy_ALLOW:
		c.warn(spec(), "if that is not meant, add rules; `rules: [{}]` allows everything", "an ALLOW without rules allows nothing: it denies everything it applies to")
	case securityapi.AuthorizationPolicy_AUDIT:
		c.warn(spec("rules"), "", "without rules it never matches")
	default:
		c.fail(spec("rules"), "to deny everything use `rules: [{}]`, or an ALLOW without rules", "%s without rules never matches", s.GetAction())
	}
}

func (c *check) provider(s *securityapi.AuthorizationPolicy) {
	custom := s.GetAction() == securityapi.AuthorizationPolicy_CUSTOM
	switch {
	case custom && s.GetProvider().GetName() == "":
		c.fail(spec("provider", "name"), "name one of meshConfig.extensionProviders", "CUSTOM needs a provider")
	case !custom && s.GetProvider() != nil:
		c.fail(spec("provider"), "set action: CUSTOM, or leave it out", "a provider is for action CUSTOM only, not %s", s.GetAction())
	}
}

// rule checks one rule. What a node proxy cannot check it judges as translate does: an ALLOW rule with it allows nothing, a
// DENY rule is enforced without it.
type rule struct {
	*check
	at     *field.Path
	action securityapi.AuthorizationPolicy_Action
	node   bool // node proxies enforce it
	lost   bool // something that they cannot check
}

func (r *rule) all(rule *securityapi.Rule) {
	if len(rule.GetFrom()) == 0 && len(rule.GetTo()) == 0 && len(rule.GetWhen()) == 0 {
		switch r.action {
		case securityapi.AuthorizationPolicy_ALLOW:
			r.warn(r.at, "", "an empty rule matches everything: all that the policy applies to is allowed")
		case securityapi.AuthorizationPolicy_DENY:
			r.warn(r.at, "", "an empty rule matches everything: all that the policy applies to is denied")
		}
		return
	}
	// narrow: a clause that a node proxy can check, so that not everything matches.
	narrow, from, to := false, len(rule.GetFrom()) > 0, len(rule.GetTo()) > 0
	for i, f := range rule.GetFrom() {
		known := r.source(r.at.Child("from").Index(i).Child("source"), f.GetSource())
		from = from && known
	}
	for i, t := range rule.GetTo() {
		known := r.operation(r.at.Child("to").Index(i).Child("operation"), t.GetOperation())
		to = to && known
	}
	for i, w := range rule.GetWhen() {
		known := r.when(r.at.Child("when").Index(i), w)
		narrow = narrow || known
	}
	if !r.lost {
		return
	}
	switch {
	case r.action == securityapi.AuthorizationPolicy_ALLOW:
		r.warn(r.at, "attach the policy to a waypoint with targetRefs", "node proxies cannot check all of this rule, so it allows nothing")
	case !narrow && !from && !to:
		r.warn(r.at, "attach the policy to a waypoint with targetRefs", "node proxies can check nothing of this rule, so it denies every connection")
	default:
		r.warn(r.at, "attach the policy to a waypoint with targetRefs", "node proxies enforce this rule without what they cannot check, so it denies more than it says")
	}
}

// needsWaypoint reports an attribute of requests.
func (r *rule) needsWaypoint(p *field.Path, list []string) {
	if r.node && len(list) > 0 {
		r.lost = true
		r.warn(p, "", "is an attribute of requests, which node proxies do not see")
	}
}
