package validate

import (
	"slices"
	"strings"

	networkingapi "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func (c *check) virtualService(o *networkingv1.VirtualService) {
	s := &o.Spec
	mesh := len(s.GetGateways()) == 0 || slices.Contains(s.GetGateways(), "mesh")
	c.vsHosts(s, mesh)
	c.exportTo(spec("exportTo"), s.GetExportTo())
	if len(s.GetHttp())+len(s.GetTcp())+len(s.GetTls()) == 0 {
		c.fail(spec("http"), "", "one of http, tls and tcp is required")
	}
	everything := -1
	for i, r := range s.GetHttp() {
		at := spec("http").Index(i)
		if everything >= 0 {
			c.warn(at, "put it before http["+itoa(everything)+"]", "is never reached: http[%d] matches everything", everything)
		} else if matchesAll(r) {
			everything = i
		}
		(&route{check: c, at: at, self: o.Namespace + "/" + o.Name, namespace: o.Namespace, mesh: mesh, delegate: len(s.GetHosts()) == 0}).http(r)
	}
	for i, r := range s.GetTls() {
		c.tlsRoute(spec("tls").Index(i), s.GetHosts(), r)
	}
	for i, r := range s.GetTcp() {
		at := spec("tcp").Index(i)
		for j, m := range r.GetMatch() {
			c.l4Match(at.Child("match").Index(j), m.GetPort(), m.GetDestinationSubnets(), m.GetSourceLabels())
		}
		c.l4Destinations(at.Child("route"), r.GetRoute())
	}
}

func (c *check) vsHosts(s *networkingapi.VirtualService, mesh bool) {
	if len(s.GetHosts()) == 0 {
		if len(s.GetGateways()) > 0 || len(s.GetTcp())+len(s.GetTls()) > 0 {
			c.fail(spec("hosts"), "", "hosts are required; only one with http routes alone can be a delegate, which has none")
		}
		return
	}
	for i, h := range s.GetHosts() {
		at := spec("hosts").Index(i)
		c.host(at, h)
		if h == "*" && mesh {
			c.fail(at, "name the hosts, or a gateway in spec.gateways", `host "*" is for gateways only`)
		}
		if slices.Index(s.GetHosts(), h) < i {
			c.fail(at, "", "host %q is listed twice", clip(h))
		}
	}
	for i, g := range s.GetGateways() {
		if slices.Index(s.GetGateways(), g) < i {
			c.warn(spec("gateways").Index(i), "", "%q is listed twice", clip(g))
		}
	}
}

// matchesAll reports routes after which no other is reached.
func matchesAll(r *networkingapi.HTTPRoute) bool {
	return len(r.GetMatch()) == 0 || slices.ContainsFunc(r.GetMatch(), func(m *networkingapi.HTTPMatchRequest) bool {
		uri := m.GetUri() == nil || m.GetUri().GetPrefix() == "/" || m.GetUri().GetRegex() == ".*"
		return uri && len(m.GetHeaders())+len(m.GetWithoutHeaders())+len(m.GetQueryParams())+len(m.GetSourceLabels())+len(m.GetGateways()) == 0 &&
			m.GetMethod() == nil && m.GetScheme() == nil && m.GetAuthority() == nil && m.GetPort() == 0 && m.GetSourceNamespace() == ""
	})
}

func (c *check) tlsRoute(p *field.Path, hosts []string, r *networkingapi.TLSRoute) {
	if len(r.GetMatch()) == 0 {
		c.fail(p.Child("match"), "", "a match with sniHosts is required")
	}
	for i, m := range r.GetMatch() {
		at := p.Child("match").Index(i)
		c.l4Match(at, m.GetPort(), m.GetDestinationSubnets(), m.GetSourceLabels())
		if len(m.GetSniHosts()) == 0 {
			c.fail(at.Child("sniHosts"), "", "server names are required")
		}
		for j, sni := range m.GetSniHosts() {
			if c.host(at.Child("sniHosts").Index(j), sni) && !slices.ContainsFunc(hosts, func(h string) bool { return covers(h, sni) }) {
				c.fail(at.Child("sniHosts").Index(j), "add it to spec.hosts", "%q is within none of spec.hosts", clip(sni))
			}
		}
	}
	c.l4Destinations(p.Child("route"), r.GetRoute())
}

// covers reports whether every name that b stands for is one of a.
func covers(a, b string) bool {
	return a == b || a == "*" || strings.HasPrefix(a, "*.") && strings.HasSuffix(b, a[1:])
}

func (c *check) l4Match(p *field.Path, port uint32, subnets []string, labels map[string]string) {
	if port != 0 {
		c.port(p.Child("port"), port)
	}
	for i, s := range subnets {
		c.address(p.Child("destinationSubnets").Index(i), s)
	}
	c.labels(p.Child("sourceLabels"), labels)
}

func (c *check) l4Destinations(p *field.Path, list []*networkingapi.RouteDestination) {
	if len(list) == 0 {
		c.fail(p, "", "a destination is required")
	}
	var weights []int32
	for i, d := range list {
		c.destination(p.Index(i).Child("destination"), d.GetDestination())
		weights = append(weights, d.GetWeight())
	}
	c.weights(p, weights)
}

func (c *check) weights(p *field.Path, list []int32) {
	sum := int64(0)
	for i, w := range list {
		if w < 0 {
			c.fail(p.Index(i).Child("weight"), "", "weight %d is negative", w)
		}
		sum += int64(w)
	}
	if len(list) > 1 && sum == 0 {
		c.fail(p, "", "all weights are 0: no request could be sent anywhere")
	}
}

func (c *check) destination(p *field.Path, d *networkingapi.Destination) {
	if d.GetHost() == "" {
		c.fail(p.Child("host"), "", "a host is required")
	} else {
		c.host(p.Child("host"), d.GetHost())
		if strings.HasPrefix(d.GetHost(), "*") {
			c.fail(p.Child("host"), "", "a destination cannot be a wildcard")
		}
	}
	if d.GetPort() != nil {
		c.port(p.Child("port", "number"), d.GetPort().GetNumber())
	}
}
