package validate

import (
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

func (c *check) httpRoute(o *gatewayv1.HTTPRoute) {
	c.parents(o.Spec.ParentRefs)
	c.routeHosts(o.Spec.Hostnames)
	for i, r := range o.Spec.Rules {
		at := spec("rules").Index(i)
		for j, m := range r.Matches {
			c.httpMatch(at.Child("matches").Index(j), m)
		}
		redirects := c.filters(at.Child("filters"), r.Filters)
		if redirects && len(r.BackendRefs) > 0 {
			c.fail(at.Child("backendRefs"), "keep one of the two", "a rule that redirects sends nothing on: RequestRedirect and backendRefs exclude each other")
		}
		if !redirects && len(r.BackendRefs) == 0 {
			c.warn(at.Child("backendRefs"), "", "without a backend every request is answered 500")
		}
		var weights []*int32
		for j, b := range r.BackendRefs {
			c.backend(at.Child("backendRefs").Index(j), b.BackendObjectReference)
			c.filters(at.Child("backendRefs").Index(j).Child("filters"), b.Filters)
			weights = append(weights, b.Weight)
		}
		c.shares(at.Child("backendRefs"), weights)
		c.timeouts(at.Child("timeouts"), r.Timeouts)
	}
}

func (c *check) httpMatch(p *field.Path, m gatewayv1.HTTPRouteMatch) {
	if m.Path != nil && m.Path.Value != nil {
		at, value := p.Child("path", "value"), *m.Path.Value
		regex := m.Path.Type != nil && *m.Path.Type == gatewayv1.PathMatchRegularExpression
		switch {
		case regex:
			c.regex(at, value)
		case !strings.HasPrefix(value, "/"):
			c.fail(at, `use "/`+clip(value)+`"`, "a path begins with a slash")
		case strings.Contains(value, "//"):
			c.fail(at, "", "a path with // is never matched")
		}
	}
	for i, h := range m.Headers {
		at := p.Child("headers").Index(i)
		c.headerName(at.Child("name"), string(h.Name))
		if h.Type != nil && *h.Type == gatewayv1.HeaderMatchRegularExpression {
			c.regex(at.Child("value"), h.Value)
		}
	}
	for i, q := range m.QueryParams {
		if q.Type != nil && *q.Type == gatewayv1.QueryParamMatchRegularExpression {
			c.regex(p.Child("queryParams").Index(i).Child("value"), q.Value)
		}
	}
}

// filters checks filters and reports whether they redirect.
func (c *check) filters(p *field.Path, list []gatewayv1.HTTPRouteFilter) bool {
	seen := map[gatewayv1.HTTPRouteFilterType]bool{}
	for i, f := range list {
		at := p.Index(i)
		set, known := map[gatewayv1.HTTPRouteFilterType]struct {
			field string
			set   bool
		}{
			gatewayv1.HTTPRouteFilterRequestHeaderModifier:  {"requestHeaderModifier", f.RequestHeaderModifier != nil},
			gatewayv1.HTTPRouteFilterResponseHeaderModifier: {"responseHeaderModifier", f.ResponseHeaderModifier != nil},
			gatewayv1.HTTPRouteFilterRequestMirror:          {"requestMirror", f.RequestMirror != nil},
			gatewayv1.HTTPRouteFilterRequestRedirect:        {"requestRedirect", f.RequestRedirect != nil},
			gatewayv1.HTTPRouteFilterURLRewrite:             {"urlRewrite", f.URLRewrite != nil},
			gatewayv1.HTTPRouteFilterCORS:                   {"cors", f.CORS != nil},
			gatewayv1.HTTPRouteFilterExtensionRef:           {"extensionRef", f.ExtensionRef != nil},
			gatewayv1.HTTPRouteFilterExternalAuth:           {"externalAuth", f.ExternalAuth != nil},
		}[f.Type]
		switch {
		case !known:
			c.warn(at.Child("type"), didYouMean(string(f.Type), "RequestHeaderModifier", "ResponseHeaderModifier", "RequestMirror", "RequestRedirect", "URLRewrite", "CORS"), "filter %q is not known", clip(string(f.Type)))
		case !set.set:
			c.fail(at.Child(set.field), "", "is required for type %s", f.Type)
		case f.Type == gatewayv1.HTTPRouteFilterExtensionRef:
			c.warn(at, "", "the mesh has no extensions: requests of the rule are answered 500")
		case seen[f.Type] && f.Type != gatewayv1.HTTPRouteFilterRequestMirror:
			c.fail(at.Child("type"), "", "filter %s is there twice", f.Type)
		}
		seen[f.Type] = true
		c.modifier(at.Child("requestHeaderModifier"), f.RequestHeaderModifier)
		c.modifier(at.Child("responseHeaderModifier"), f.ResponseHeaderModifier)
		if f.RequestMirror != nil {
			c.backend(at.Child("requestMirror", "backendRef"), f.RequestMirror.BackendRef)
		}
	}
	if seen[gatewayv1.HTTPRouteFilterRequestRedirect] && seen[gatewayv1.HTTPRouteFilterURLRewrite] {
		c.fail(p, "keep one of the two", "RequestRedirect and URLRewrite exclude each other")
	}
	return seen[gatewayv1.HTTPRouteFilterRequestRedirect]
}

func (c *check) modifier(p *field.Path, f *gatewayv1.HTTPHeaderFilter) {
	if f == nil {
		return
	}
	for i, h := range f.Set {
		c.headerName(p.Child("set").Index(i).Child("name"), string(h.Name))
	}
	for i, h := range f.Add {
		c.headerName(p.Child("add").Index(i).Child("name"), string(h.Name))
	}
	for i, n := range f.Remove {
		c.headerName(p.Child("remove").Index(i), n)
	}
}

func (c *check) timeouts(p *field.Path, t *gatewayv1.HTTPRouteTimeouts) {
	if t == nil {
		return
	}
	request, ok1 := c.duration(p.Child("request"), t.Request)
	backend, ok2 := c.duration(p.Child("backendRequest"), t.BackendRequest)
	if ok1 && ok2 && request > 0 && backend > request {
		c.fail(p.Child("backendRequest"), "", "%s is longer than the whole request may take, %s", backend, request)
	}
}

// duration reads one of the Gateway API (GEP-2257).
func (c *check) duration(p *field.Path, d *gatewayv1.Duration) (time.Duration, bool) {
	if d == nil {
		return 0, false
	}
	v, err := time.ParseDuration(string(*d))
	if err != nil || v < 0 {
		c.fail(p, "write it as 500ms or 1m30s", "%q is not a duration", clip(string(*d)))
		return 0, false
	}
	return v, true
}

func (c *check) grpcRoute(o *gatewayv1.GRPCRoute) {
	c.parents(o.Spec.ParentRefs)
	c.routeHosts(o.Spec.Hostnames)
	for i, r := range o.Spec.Rules {
		at := spec("rules").Index(i)
		for j, m := range r.Matches {
			p := at.Child("matches").Index(j)
			if m.Method != nil {
				c.grpcMethod(p.Child("method"), m.Method)
			}
			for k, h := range m.Headers {
				c.headerName(p.Child("headers").Index(k).Child("name"), string(h.Name))
				if h.Type != nil && *h.Type == gatewayv1.GRPCHeaderMatchRegularExpression {
					c.regex(p.Child("headers").Index(k).Child("value"), h.Value)
				}
			}
		}
		var weights []*int32
		for j, b := range r.BackendRefs {
			c.backend(at.Child("backendRefs").Index(j), b.BackendObjectReference)
			weights = append(weights, b.Weight)
		}
		c.shares(at.Child("backendRefs"), weights)
	}
}

func (c *check) grpcMethod(p *field.Path, m *gatewayv1.GRPCMethodMatch) {
	regex := m.Type != nil && *m.Type == gatewayv1.GRPCMethodMatchRegularExpression
	if (m.Service == nil || *m.Service == "") && (m.Method == nil || *m.Method == "") {
		c.fail(p, "leave it out to match every method", "service or method is required")
	}
	for name, s := range map[string]*string{"service": m.Service, "method": m.Method} {
		switch {
		case s == nil:
		case regex:
			c.regex(p.Child(name), *s)
		case strings.Contains(*s, "/"):
			c.fail(p.Child(name), "", "%q has a slash: service and method are matched apart", clip(*s))
		}
	}
}
