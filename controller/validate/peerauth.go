package validate

import (
	"maps"
	"slices"
	"strconv"

	securityapi "istio.io/api/security/v1beta1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func (c *check) peerAuthentication(p *securityv1.PeerAuthentication) {
	s := &p.Spec
	selects := len(s.GetSelector().GetMatchLabels()) > 0
	c.attached(p, attachment{selector: s.GetSelector()})
	if selects && p.Namespace == c.root {
		c.warn(spec("selector"), "put it into the workloads' namespace", "in the root namespace a selector selects nothing")
	}
	ports := spec("portLevelMtls")
	if len(s.GetPortLevelMtls()) > 0 && !selects {
		c.fail(ports, "select the workloads whose ports are meant", "portLevelMtls needs a selector")
	}
	c.mtls(spec("mtls"), s.GetMtls())
	for _, n := range slices.Sorted(maps.Keys(s.GetPortLevelMtls())) {
		at := ports.Key(strconv.Itoa(int(n)))
		c.port(at, n)
		c.mtls(at, s.GetPortLevelMtls()[n])
	}
}

func (c *check) mtls(p *field.Path, m *securityapi.PeerAuthentication_MutualTLS) {
	if m.GetMode() == securityapi.PeerAuthentication_MutualTLS_DISABLE {
		c.warn(p.Child("mode"), "use PERMISSIVE, or take the workload out of the mesh", "in an ambient mesh the tunnel is always mutual TLS: DISABLE means PERMISSIVE")
	}
}
