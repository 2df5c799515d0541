package validate

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	networkingapi "istio.io/api/networking/v1alpha3"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func itoa(n int) string { return strconv.Itoa(n) }

// route checks one http route of a VirtualService.
type route struct {
	*check
	at              *field.Path
	self, namespace string
	mesh, delegate  bool
}

func (r *route) http(h *networkingapi.HTTPRoute) {
	for i, m := range h.GetMatch() {
		r.match(r.at.Child("match").Index(i), m)
	}
	r.action(h)
	var weights []int32
	for i, d := range h.GetRoute() {
		at := r.at.Child("route").Index(i)
		r.destination(at.Child("destination"), d.GetDestination())
		r.headers(at.Child("headers"), d.GetHeaders())
		weights = append(weights, d.GetWeight())
	}
	r.weights(r.at.Child("route"), weights)
	r.headers(r.at.Child("headers"), h.GetHeaders())
	r.redirect(h)
	r.rewrite(h)
	r.mirror(h)
	r.retries(h.GetRetries())
	r.fault(h.GetFault())
	r.cors(h.GetCorsPolicy())
	r.atLeast(r.at.Child("timeout"), h.GetTimeout(), 0)
}

// action: exactly one thing is done with a request.
func (r *route) action(h *networkingapi.HTTPRoute) {
	direct := h.GetDirectResponse()
	var actions []string
	for name, set := range map[string]bool{
		"route": len(h.GetRoute()) > 0, "redirect": h.GetRedirect() != nil, "directResponse": direct != nil, "delegate": h.GetDelegate() != nil,
	} {
		if set {
			actions = append(actions, name)
		}
	}
	slices.Sort(actions)
	switch {
	case len(actions) == 0:
		r.fail(r.at, "", "one of route, redirect, directResponse and delegate is required")
	case len(actions) > 1:
		r.fail(r.at, "keep one of them", "%s exclude each other", strings.Join(actions, " and "))
	case actions[0] == "redirect" || actions[0] == "directResponse":
		for name, set := range map[string]bool{"fault": h.GetFault() != nil, "rewrite": h.GetRewrite() != nil} {
			if set {
				r.fail(r.at.Child(name), "", "%s does not go with %s: nothing is sent on", name, actions[0])
			}
		}
	}
	if direct != nil && (direct.GetStatus() < 200 || direct.GetStatus() > 599) {
		r.fail(r.at.Child("directResponse", "status"), "", "%d is not a status: want 200 to 599", direct.GetStatus())
	}
	const most = 1 << 20
	if n := len(direct.GetBody().GetString_()) + len(direct.GetBody().GetBytes()); n > most {
		r.fail(r.at.Child("directResponse", "body"), "", "%d bytes: want at most %d", n, most)
	}
	if d := h.GetDelegate(); d != nil {
		ns := d.GetNamespace()
		if ns == "" {
			ns = r.namespace
		}
		if r.delegate {
			r.fail(r.at.Child("delegate"), "", "a delegate, which is what has no hosts, cannot delegate on")
		} else if ns+"/"+d.GetName() == r.self {
			r.fail(r.at.Child("delegate"), "", "delegates to itself")
		}
	}
}

func (r *route) match(p *field.Path, m *networkingapi.HTTPMatchRequest) {
	for name, s := range map[string]*networkingapi.StringMatch{"uri": m.GetUri(), "scheme": m.GetScheme(), "method": m.GetMethod(), "authority": m.GetAuthority()} {
		r.text(p.Child(name), s, false)
	}
	for _, set := range []struct {
		name string
		all  map[string]*networkingapi.StringMatch
	}{{"headers", m.GetHeaders()}, {"withoutHeaders", m.GetWithoutHeaders()}, {"queryParams", m.GetQueryParams()}} {
		for _, name := range slices.Sorted(maps.Keys(set.all)) {
			at := p.Child(set.name).Key(clip(name))
			switch {
			case strings.HasPrefix(name, "@request.auth.claims"):
				if r.mesh {
					r.fail(at, "name the gateway in spec.gateways", "claims can be matched at gateways only")
				}
			case set.name != "queryParams":
				r.headerName(at, name)
			case name == "":
				r.fail(at, "", "parameter name is empty")
			}
			r.text(at, set.all[name], true)
		}
	}
	if m.GetPort() != 0 {
		r.port(p.Child("port"), m.GetPort())
	}
	r.labels(p.Child("sourceLabels"), m.GetSourceLabels())
}

// text checks a string match; where presence is asked for, an empty one is fine.
func (r *route) text(p *field.Path, s *networkingapi.StringMatch, presence bool) {
	if s == nil {
		return
	}
	switch t := s.GetMatchType().(type) {
	case *networkingapi.StringMatch_Exact:
		if t.Exact == "" && !presence {
			r.fail(p.Child("exact"), "", "value is empty: it never matches")
		}
	case *networkingapi.StringMatch_Prefix:
		if t.Prefix == "" && !presence && p.String() != "" && !strings.HasSuffix(p.String(), ".uri") {
			r.fail(p.Child("prefix"), "", "value is empty")
		}
	case *networkingapi.StringMatch_Regex:
		if t.Regex != "*" || !presence {
			r.regex(p.Child("regex"), t.Regex)
		}
	default:
		if !presence {
			r.fail(p, "", "one of exact, prefix and regex is required")
		}
	}
}

func (r *route) headers(p *field.Path, h *networkingapi.Headers) {
	for name, ops := range map[string]*networkingapi.Headers_HeaderOperations{"request": h.GetRequest(), "response": h.GetResponse()} {
		at := p.Child(name)
		for n := range ops.GetSet() {
			r.headerName(at.Child("set").Key(clip(n)), n)
		}
		for n := range ops.GetAdd() {
			r.headerName(at.Child("add").Key(clip(n)), n)
			if _, twice := ops.GetSet()[n]; twice {
				r.warn(at.Child("add").Key(clip(n)), "", "the header is set, too: it will have both values")
			}
		}
		for i, n := range ops.GetRemove() {
			r.headerName(at.Child("remove").Index(i), n)
			if strings.HasPrefix(n, ":") {
				r.fail(at.Child("remove").Index(i), "", "%q is part of every request and cannot be removed", clip(n))
			}
		}
	}
}

func (r *route) redirect(h *networkingapi.HTTPRoute) {
	d, p := h.GetRedirect(), r.at.Child("redirect")
	if d == nil {
		return
	}
	if d.GetUri() == "" && d.GetAuthority() == "" && d.GetScheme() == "" && d.GetPrefixRewrite() == "" && d.GetRedirectPort() == nil {
		r.fail(p, "set uri, authority, scheme or port", "redirects to where the request was sent")
	}
	if d.GetUri() != "" && d.GetPrefixRewrite() != "" {
		r.fail(p.Child("prefixRewrite"), "keep one of the two", "uri and prefixRewrite exclude each other")
	}
	if s := d.GetScheme(); s != "" && s != "http" && s != "https" {
		r.fail(p.Child("scheme"), oneOf(s, "http", "https"), "scheme %q is not known", clip(s))
	}
	if code := d.GetRedirectCode(); code != 0 && !slices.Contains([]uint32{301, 302, 303, 307, 308}, code) {
		r.fail(p.Child("redirectCode"), "use 301, 302, 303, 307 or 308", "%d is not the code of a redirect", code)
	}
	if _, ok := d.GetRedirectPort().(*networkingapi.HTTPRedirect_Port); ok {
		r.port(p.Child("port"), d.GetPort())
	}
	if d.GetPrefixRewrite() != "" && (len(h.GetMatch()) == 0 || slices.ContainsFunc(h.GetMatch(), func(m *networkingapi.HTTPMatchRequest) bool { return m.GetUri().GetPrefix() == "" })) {
		r.fail(p.Child("prefixRewrite"), "", "every match of the route needs uri.prefix")
	}
}
