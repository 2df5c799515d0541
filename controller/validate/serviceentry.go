package validate

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	networkingapi "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func (c *check) serviceEntry(o *networkingv1.ServiceEntry) {
	s := &o.Spec
	for i, h := range s.GetHosts() {
		at := spec("hosts").Index(i)
		c.host(at, h)
		if h == "*" {
			c.fail(at, "name the hosts, or a domain as *.example.com", "a service cannot be every host")
		}
		if slices.Index(s.GetHosts(), h) < i {
			c.fail(at, "", "host %q is listed twice", clip(h))
		}
	}
	for i, a := range s.GetAddresses() {
		c.address(spec("addresses").Index(i), a)
	}
	c.exportTo(spec("exportTo"), s.GetExportTo())
	if to := s.GetExportTo(); len(to) > 0 && !slices.Contains(to, "*") {
		c.warn(spec("exportTo"), "use serviceEntryVisibility of MeshConfig", "without effect in ambient mode: the entry is visible to every namespace")
	}
	c.servicePorts(s.GetPorts())
	c.labels(spec("workloadSelector", "labels"), s.GetWorkloadSelector().GetLabels())
	for i, e := range s.GetEndpoints() {
		at := spec("endpoints").Index(i)
		c.workloadEntry(at, e)
		for name := range e.GetPorts() {
			if !slices.ContainsFunc(s.GetPorts(), func(p *networkingapi.ServicePort) bool { return p.GetName() == name }) {
				c.fail(at.Child("ports").Key(clip(name)), "", "the service has no port of that name")
			}
		}
	}
	if s.GetWorkloadSelector() != nil && len(s.GetEndpoints()) > 0 {
		c.fail(spec("workloadSelector"), "keep one of the two", "workloadSelector and endpoints exclude each other")
	}
	c.resolution(s)
}

func (c *check) servicePorts(ports []*networkingapi.ServicePort) {
	if len(ports) == 0 {
		c.warn(spec("ports"), "", "without ports nothing can be reached")
	}
	numbers, names := map[uint32]bool{}, map[string]bool{}
	for i, p := range ports {
		at := spec("ports").Index(i)
		c.port(at.Child("number"), p.GetNumber())
		if p.GetTargetPort() != 0 {
			c.port(at.Child("targetPort"), p.GetTargetPort())
		}
		c.portName(at.Child("name"), p.GetName())
		c.protocol(at.Child("protocol"), p.GetProtocol())
		if numbers[p.GetNumber()] {
			c.fail(at.Child("number"), "", "port %d is there twice", p.GetNumber())
		}
		if names[p.GetName()] && p.GetName() != "" {
			c.fail(at.Child("name"), "", "name %q is there twice", clip(p.GetName()))
		}
		numbers[p.GetNumber()], names[p.GetName()] = true, true
	}
}

func (c *check) portName(p *field.Path, name string) {
	if name == "" {
		c.fail(p, "", "a name is required")
	} else if msgs := validation.IsDNS1123Label(name); len(msgs) > 0 {
		c.fail(p, "", "%s", msgs[0])
	}
}

var protocols = []string{"HTTP", "HTTPS", "HTTP2", "GRPC", "GRPC-WEB", "TLS", "TCP", "MONGO", "MYSQL", "REDIS", "UDP"}

func (c *check) protocol(p *field.Path, name string) {
	if name != "" && !slices.Contains(protocols, strings.ToUpper(name)) {
		c.fail(p, oneOf(name, protocols...), "protocol %q is not known", clip(name))
	}
}

// resolution checks how endpoints are found against what is said about them.
func (c *check) resolution(s *networkingapi.ServiceEntry) {
	wild := slices.IndexFunc(s.GetHosts(), func(h string) bool { return strings.HasPrefix(h, "*") })
	endpoints, selects := s.GetEndpoints(), s.GetWorkloadSelector() != nil
	at := spec("resolution")
	switch s.GetResolution() {
	case networkingapi.ServiceEntry_NONE:
		if len(endpoints) > 0 {
			c.fail(at, "use STATIC, or DNS for endpoints that are names", "NONE goes to the address that was asked for: it has no endpoints")
		}
	case networkingapi.ServiceEntry_STATIC:
		for i, e := range endpoints {
			if _, err := netip.ParseAddr(e.GetAddress()); err != nil && e.GetAddress() != "" && !strings.HasPrefix(e.GetAddress(), "unix://") {
				c.fail(spec("endpoints").Index(i).Child("address"), "use resolution DNS for names", "STATIC endpoints have IP addresses: %q is none", clip(e.GetAddress()))
			}
		}
		if len(endpoints) == 0 && !selects {
			c.warn(spec("endpoints"), "", "STATIC without endpoints and without workloadSelector: there is nothing to connect to")
		}
	case networkingapi.ServiceEntry_DNS, networkingapi.ServiceEntry_DNS_ROUND_ROBIN:
		if wild >= 0 && len(endpoints) == 0 {
			c.fail(spec("hosts").Index(wild), "name the host, give endpoints, or use DYNAMIC_DNS", "a wildcard cannot be resolved")
		}
		for i, a := range s.GetAddresses() {
			if p, err := netip.ParsePrefix(a); err == nil && !p.IsSingleIP() {
				c.fail(spec("addresses").Index(i), "use single addresses, or resolution NONE or STATIC", "a block of addresses does not go with resolution by DNS")
			}
		}
		if s.GetResolution() == networkingapi.ServiceEntry_DNS_ROUND_ROBIN && len(endpoints) > 1 {
			c.fail(spec("endpoints"), "use resolution DNS", "DNS_ROUND_ROBIN has at most one endpoint")
		}
	case networkingapi.ServiceEntry_DYNAMIC_DNS:
		if len(s.GetAddresses()) > 0 || len(endpoints) > 0 || selects {
			c.fail(at, "leave out addresses, endpoints and workloadSelector", "DYNAMIC_DNS resolves the name of each request")
		}
		if wild < 0 && len(s.GetHosts()) > 0 {
			c.fail(spec("hosts"), "use resolution DNS", "DYNAMIC_DNS is for wildcard hosts")
		}
	}
}

// workloadEntry checks an entry, or an endpoint of a service entry.
func (c *check) workloadEntry(p *field.Path, e *networkingapi.WorkloadEntry) {
	c.endpointAddress(p.Child("address"), e)
	for name, n := range e.GetPorts() {
		at := p.Child("ports").Key(clip(name))
		c.portName(at, name)
		if !strings.HasPrefix(e.GetAddress(), "unix://") {
			c.port(at, n)
		}
	}
	c.labels(p.Child("labels"), e.GetLabels())
	if sa := e.GetServiceAccount(); sa != "" {
		if msgs := validation.IsDNS1123Subdomain(sa); len(msgs) > 0 {
			use := ""
			if strings.Contains(sa, "/") {
				use = fmt.Sprintf("use %q: the namespace is the entry's", clip(sa[strings.LastIndex(sa, "/")+1:]))
			}
			c.fail(p.Child("serviceAccount"), use, "%q is not the name of a service account", clip(sa))
		}
	}
	if l := e.GetLocality(); strings.Count(l, "/") > 2 {
		c.warn(p.Child("locality"), "write region/zone/subzone", "%q has too many parts", clip(l))
	}
}

func (c *check) endpointAddress(p *field.Path, e *networkingapi.WorkloadEntry) {
	a := e.GetAddress()
	_, err := netip.ParseAddr(a)
	path, unix := strings.CutPrefix(a, "unix://")
	switch {
	case err == nil:
	case a == "":
		if e.GetNetwork() == "" {
			c.fail(p, "", "an address is required, or a network that has a gateway")
		}
	case unix && !strings.HasPrefix(path, "/") && !strings.HasPrefix(path, "@"):
		c.fail(p, "write unix:///path", "%q is not the path of a socket", clip(a))
	case unix:
		c.warn(p, "", "node proxies do not connect to Unix sockets")
	default:
		if _, err := netip.ParsePrefix(a); err == nil {
			c.fail(p, "", "%q is a block: an endpoint has one address", clip(a))
		} else if strings.HasPrefix(a, "*") || !fqdn(a) {
			c.fail(p, "", "%q is neither an IP address nor a host name", clip(a))
		}
	}
}
