package validate

import (
	"net/url"

	jose "github.com/go-jose/go-jose/v4"
	securityapi "istio.io/api/security/v1beta1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func (c *check) requestAuthentication(p *securityv1.RequestAuthentication) {
	s := &p.Spec
	at := attachment{s.GetSelector(), s.GetTargetRef(), s.GetTargetRefs()}
	c.attached(p, at)
	if !at.targeted() {
		c.warn(spec(), "attach it with targetRefs", "node proxies read no tokens: it applies to waypoints and gateways only")
	}
	if len(s.GetJwtRules()) == 0 {
		c.warn(spec("jwtRules"), "", "without rules every token is ignored")
	}
	for i, r := range s.GetJwtRules() {
		c.jwtRule(spec("jwtRules").Index(i), r)
	}
}

func (c *check) jwtRule(p *field.Path, r *securityapi.JWTRule) {
	if r.GetIssuer() == "" {
		c.fail(p.Child("issuer"), "", "an issuer is required")
	}
	for i, a := range r.GetAudiences() {
		if a == "" {
			c.fail(p.Child("audiences").Index(i), "", "value is empty")
		}
	}
	c.keys(p, r)
	for i, h := range r.GetFromHeaders() {
		c.headerName(p.Child("fromHeaders").Index(i).Child("name"), h.GetName())
	}
	for i, s := range r.GetFromParams() {
		if s == "" {
			c.fail(p.Child("fromParams").Index(i), "", "value is empty")
		}
	}
	for i, s := range r.GetFromCookies() {
		if s == "" {
			c.fail(p.Child("fromCookies").Index(i), "", "value is empty")
		}
	}
	if h := r.GetOutputPayloadToHeader(); h != "" {
		c.headerName(p.Child("outputPayloadToHeader"), h)
	}
	for i, o := range r.GetOutputClaimToHeaders() {
		at := p.Child("outputClaimToHeaders").Index(i)
		c.headerName(at.Child("header"), o.GetHeader())
		if o.GetClaim() == "" {
			c.fail(at.Child("claim"), "", "a claim is required")
		}
	}
	c.atLeast(p.Child("timeout"), r.GetTimeout(), 1)
}

// keys checks where the keys come from that tokens are verified with.
func (c *check) keys(p *field.Path, r *securityapi.JWTRule) {
	if r.GetJwks() != "" && r.GetJwksUri() != "" {
		c.fail(p.Child("jwks"), "keep one of the two", "jwks and jwksUri exclude each other")
	}
	if text := r.GetJwks(); text != "" {
		var set jose.JSONWebKeySet
		if err := unmarshal(text, &set); err != nil {
			c.fail(p.Child("jwks"), `write a JSON Web Key Set: {"keys": [...]}`, "not a key set: %s", clip(err.Error()))
		} else if len(set.Keys) == 0 {
			c.fail(p.Child("jwks"), "", "the key set has no keys: no token would be accepted")
		}
	}
	text := r.GetJwksUri()
	if text == "" {
		return
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		c.fail(p.Child("jwksUri"), "write a URL, as https://issuer.example/keys", "%q is not an http or https URL", clip(text))
	case u.Scheme == "http":
		c.warn(p.Child("jwksUri"), "use https", "over http anybody on the way can replace the keys")
	}
}
