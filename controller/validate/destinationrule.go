package validate

import (
	"regexp"
	"strings"

	networkingapi "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

var subsetName = regexp.MustCompile(`^[a-zA-Z0-9]([-a-zA-Z0-9_.]*[a-zA-Z0-9])?$`)

func (c *check) destinationRule(o *networkingv1.DestinationRule) {
	s := &o.Spec
	if s.GetHost() == "" {
		c.fail(spec("host"), "", "a host is required")
	} else {
		c.host(spec("host"), s.GetHost())
	}
	c.exportTo(spec("exportTo"), s.GetExportTo())
	if s.GetWorkloadSelector() != nil {
		c.labels(spec("workloadSelector", "matchLabels"), s.GetWorkloadSelector().GetMatchLabels())
		c.warn(spec("workloadSelector"), "", "selects clients with sidecars: waypoints and gateways ignore the rule")
	}
	c.trafficPolicy(spec("trafficPolicy"), s.GetTrafficPolicy())
	seen := map[string]bool{}
	for i, sub := range s.GetSubsets() {
		at := spec("subsets").Index(i)
		switch name := sub.GetName(); {
		case name == "":
			c.fail(at.Child("name"), "", "a name is required")
		case !subsetName.MatchString(name) || len(name) > 63:
			c.fail(at.Child("name"), "", "%q is not a name: want letters, digits, '-', '_' and '.', at most 63", clip(name))
		case seen[name]:
			c.fail(at.Child("name"), "", "subset %q is there twice: the first counts", clip(name))
		}
		seen[sub.GetName()] = true
		c.labels(at.Child("labels"), sub.GetLabels())
		c.trafficPolicy(at.Child("trafficPolicy"), sub.GetTrafficPolicy())
	}
}

func (c *check) trafficPolicy(p *field.Path, t *networkingapi.TrafficPolicy) {
	if t == nil {
		return
	}
	if t.GetTunnel() != nil && t.GetProxyProtocol() != nil {
		c.fail(p.Child("tunnel"), "keep one of the two", "tunnel and proxyProtocol exclude each other")
	}
	c.loadBalancer(p.Child("loadBalancer"), t.GetLoadBalancer())
	c.connectionPool(p.Child("connectionPool"), t.GetConnectionPool())
	c.outliers(p.Child("outlierDetection"), t.GetOutlierDetection())
	c.clientTLS(p.Child("tls"), t.GetTls())
	if u := t.GetTunnel(); u != nil {
		at := p.Child("tunnel")
		if u.GetProtocol() != "" && u.GetProtocol() != "CONNECT" && u.GetProtocol() != "POST" {
			c.fail(at.Child("protocol"), oneOf(u.GetProtocol(), "CONNECT", "POST"), "protocol %q is not known", clip(u.GetProtocol()))
		}
		c.host(at.Child("targetHost"), u.GetTargetHost())
		c.port(at.Child("targetPort"), u.GetTargetPort())
	}
	if b := t.GetRetryBudget(); b != nil && b.GetPercent() != nil {
		c.percent(p.Child("retryBudget", "percent"), b.GetPercent().GetValue())
	}
	seen := map[uint32]bool{}
	for i, l := range t.GetPortLevelSettings() {
		at := p.Child("portLevelSettings").Index(i)
		n := l.GetPort().GetNumber()
		c.port(at.Child("port", "number"), n)
		if seen[n] {
			c.fail(at.Child("port", "number"), "", "port %d is there twice", n)
		}
		seen[n] = true
		c.loadBalancer(at.Child("loadBalancer"), l.GetLoadBalancer())
		c.connectionPool(at.Child("connectionPool"), l.GetConnectionPool())
		c.outliers(at.Child("outlierDetection"), l.GetOutlierDetection())
		c.clientTLS(at.Child("tls"), l.GetTls())
	}
}

func (c *check) connectionPool(p *field.Path, s *networkingapi.ConnectionPoolSettings) {
	t, h := s.GetTcp(), s.GetHttp()
	for name, n := range map[string]int32{
		"tcp.maxConnections": t.GetMaxConnections(), "http.http1MaxPendingRequests": h.GetHttp1MaxPendingRequests(), "http.maxRetries": h.GetMaxRetries(),
		"http.http2MaxRequests": h.GetHttp2MaxRequests(), "http.maxRequestsPerConnection": h.GetMaxRequestsPerConnection(), "http.maxConcurrentStreams": h.GetMaxConcurrentStreams(),
	} {
		if n < 0 {
			proto, child, _ := strings.Cut(name, ".")
			c.fail(p.Child(proto, child), "", "%d is negative", n)
		}
	}
	c.atLeast(p.Child("tcp", "connectTimeout"), t.GetConnectTimeout(), 1)
	c.atLeast(p.Child("tcp", "maxConnectionDuration"), t.GetMaxConnectionDuration(), 1)
	c.atLeast(p.Child("tcp", "idleTimeout"), t.GetIdleTimeout(), 0)
	c.atLeast(p.Child("http", "idleTimeout"), h.GetIdleTimeout(), 0)
	if h.GetUseClientProtocol() && h.GetH2UpgradePolicy() == networkingapi.ConnectionPoolSettings_HTTPSettings_UPGRADE {
		c.fail(p.Child("http", "useClientProtocol"), "keep one of the two", "useClientProtocol and h2UpgradePolicy: UPGRADE exclude each other")
	}
}

func (c *check) outliers(p *field.Path, o *networkingapi.OutlierDetection) {
	if o == nil {
		return
	}
	//lint:ignore SA1019 users still write it
	if o.GetConsecutiveErrors() != 0 {
		c.warn(p.Child("consecutiveErrors"), "use consecutive5xxErrors or consecutiveGatewayErrors", "is no longer read")
	}
	if o.GetConsecutiveLocalOriginFailures() != nil && !o.GetSplitExternalLocalOriginErrors() {
		c.fail(p.Child("consecutiveLocalOriginFailures"), "set splitExternalLocalOriginErrors: true", "needs local errors to be counted apart")
	}
	c.percent(p.Child("maxEjectionPercent"), float64(o.GetMaxEjectionPercent()))
	c.percent(p.Child("minHealthPercent"), float64(o.GetMinHealthPercent()))
	c.atLeast(p.Child("interval"), o.GetInterval(), 1)
	c.atLeast(p.Child("baseEjectionTime"), o.GetBaseEjectionTime(), 1)
	for i, code := range o.GetOutlierDetectionHttpErrorCodes() {
		if code < 100 || code > 599 {
			c.fail(p.Child("outlierDetectionHttpErrorCodes").Index(i), "", "%d is not a status", code)
		}
	}
}

func (c *check) clientTLS(p *field.Path, t *networkingapi.ClientTLSSettings) {
	if t == nil {
		return
	}
	files := t.GetClientCertificate() != "" || t.GetPrivateKey() != ""
	switch t.GetMode() {
	case networkingapi.ClientTLSSettings_ISTIO_MUTUAL:
		if files || t.GetCaCertificates() != "" || t.GetCredentialName() != "" {
			c.fail(p, "leave them out, or use MUTUAL", "ISTIO_MUTUAL uses the mesh's certificates: no others may be given")
		}
	case networkingapi.ClientTLSSettings_MUTUAL:
		switch {
		case t.GetCredentialName() != "" && (files || t.GetCaCertificates() != ""):
			c.fail(p.Child("credentialName"), "keep one of the two", "credentialName and files exclude each other")
		case t.GetCredentialName() == "" && (t.GetClientCertificate() == "" || t.GetPrivateKey() == ""):
			c.fail(p, "give credentialName, or clientCertificate and privateKey", "MUTUAL needs a certificate and its key")
		}
	case networkingapi.ClientTLSSettings_SIMPLE:
		if files {
			c.fail(p, "use MUTUAL", "SIMPLE presents no certificate")
		}
	case networkingapi.ClientTLSSettings_DISABLE:
		if files || t.GetCaCertificates() != "" || t.GetCredentialName() != "" || t.GetSni() != "" || len(t.GetSubjectAltNames()) > 0 {
			c.warn(p, "", "DISABLE ignores all other TLS settings")
		}
	}
	if t.GetInsecureSkipVerify().GetValue() && (t.GetCaCertificates() != "" || len(t.GetSubjectAltNames()) > 0) {
		c.fail(p.Child("insecureSkipVerify"), "", "the server is not verified: caCertificates and subjectAltNames contradict it")
	}
}
