package validate

import (
	"slices"
	"strings"

	networkingapi "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func (c *check) istioGateway(o *networkingv1.Gateway) {
	s := &o.Spec
	if len(s.GetServers()) == 0 {
		c.fail(spec("servers"), "", "a server is required")
	}
	if len(s.GetSelector()) == 0 {
		c.warn(spec("selector"), "name the labels of the gateway's pods", "without a selector it applies to every gateway")
	}
	c.labels(spec("selector"), s.GetSelector())
	names := map[string]bool{}
	for i, server := range s.GetServers() {
		at := spec("servers").Index(i)
		c.server(at, server)
		if n := server.GetPort().GetName(); n != "" {
			if names[n] {
				c.fail(at.Child("port", "name"), "", "port name %q is there twice", clip(n))
			}
			names[n] = true
		}
	}
}

func (c *check) server(p *field.Path, s *networkingapi.Server) {
	c.port(p.Child("port", "number"), s.GetPort().GetNumber())
	if s.GetPort().GetName() == "" {
		c.fail(p.Child("port", "name"), "", "a name is required")
	}
	protocol := strings.ToUpper(s.GetPort().GetProtocol())
	if protocol == "" {
		c.fail(p.Child("port", "protocol"), "use one of HTTP, HTTPS, HTTP2, GRPC, TLS, TCP", "a protocol is required")
	}
	c.protocol(p.Child("port", "protocol"), protocol)
	if len(s.GetHosts()) == 0 {
		c.fail(p.Child("hosts"), "", "a host is required")
	}
	for i, h := range s.GetHosts() {
		at := p.Child("hosts").Index(i)
		ns, name, ok := strings.Cut(h, "/")
		if !ok {
			name = h
		} else if ns != "*" && ns != "." && ns != "~" && len(validation.IsDNS1123Label(ns)) > 0 {
			c.fail(at, "", "%q is not a namespace", clip(ns))
		}
		c.host(at, name)
		if slices.Index(s.GetHosts(), h) < i {
			c.fail(at, "", "host %q is listed twice", clip(h))
		}
	}
	c.serverTLS(p.Child("tls"), protocol, s.GetTls())
}

func (c *check) serverTLS(p *field.Path, protocol string, t *networkingapi.ServerTLSSettings) {
	encrypted := protocol == "HTTPS" || protocol == "TLS"
	switch {
	case t == nil && encrypted:
		c.fail(p, "", "protocol %s needs tls", protocol)
		return
	case t == nil:
		return
	case !encrypted && (t.GetMode() != networkingapi.ServerTLSSettings_PASSTHROUGH || t.GetCredentialName() != ""):
		c.warn(p, "use protocol HTTPS or TLS", "protocol %s has no TLS: all but httpsRedirect is ignored", protocol)
		return
	}
	if t.GetHttpsRedirect() && protocol != "HTTP" {
		c.fail(p.Child("httpsRedirect"), "set it at the HTTP server", "redirects from plain HTTP only")
	}
	source := t.GetCredentialName() != "" || len(t.GetCredentialNames())+len(t.GetTlsCertificates()) > 0
	files := t.GetServerCertificate() != "" && t.GetPrivateKey() != ""
	mode := t.GetMode()
	terminates := mode == networkingapi.ServerTLSSettings_SIMPLE || mode == networkingapi.ServerTLSSettings_MUTUAL || mode == networkingapi.ServerTLSSettings_OPTIONAL_MUTUAL
	switch {
	case terminates && !source && !files && encrypted:
		c.fail(p, "give credentialName, or serverCertificate and privateKey", "%s needs a certificate and its key", mode)
	case mode == networkingapi.ServerTLSSettings_MUTUAL && !source && t.GetCaCertificates() == "" && t.GetCaCertCredentialName() == "" && encrypted:
		c.fail(p.Child("caCertificates"), "", "MUTUAL needs certificates to verify clients with")
	case !terminates && (source || files):
		c.warn(p, "", "%s presents no certificate of its own: those given are ignored", mode)
	}
	lo, hi := t.GetMinProtocolVersion(), t.GetMaxProtocolVersion()
	if lo != networkingapi.ServerTLSSettings_TLS_AUTO && hi != networkingapi.ServerTLSSettings_TLS_AUTO && lo > hi {
		c.fail(p.Child("minProtocolVersion"), "", "is above maxProtocolVersion")
	}
}
