package xds

import (
	"fmt"

	"github.com/ambit-mesh/ambit/controller/api/spiffe"
	"github.com/ambit-mesh/ambit/controller/api/workload"
	"github.com/ambit-mesh/ambit/ztunnel/state"
)

func toService(m *workload.Service) (*state.Service, error) {
	s := &state.Service{
		Name: m.GetName(), Namespace: m.GetNamespace(), Hostname: m.GetHostname(), Canonical: m.GetCanonical(),
		// An unknown visibility is public, as for a ztunnel: it restricts names, not access.
		Restricted: m.GetVisibility() == workload.Service_NAMESPACE,
	}
	if err := label("namespace", s.Namespace); err != nil {
		return nil, err
	}
	if err := label("hostname", s.Hostname); err != nil {
		return nil, err
	}
	if err := text("name", s.Name); err != nil {
		return nil, err
	}
	var err error
	if s.VIPs, s.CIDRs, err = toNetworkAddrs(m.GetAddresses()); err != nil {
		return nil, fmt.Errorf("addresses: %w", err)
	}
	if s.Ports, err = toPorts(m.GetPorts()); err != nil {
		return nil, fmt.Errorf("ports: %w", err)
	}
	for _, name := range m.GetSubjectAltNames() {
		// Names of another kind (DNS, say) are for other clients; none of them can admit a peer here.
		if id, err := spiffe.Parse(name); err == nil {
			s.SANs = addOnce(s.SANs, id)
		}
	}
	if s.Waypoint, err = toGateway(m.GetWaypoint()); err != nil {
		return nil, fmt.Errorf("waypoint: %w", err)
	}
	for _, w := range m.GetWeightedWaypoints() {
		g, err := toGateway(w.GetDestination())
		if err != nil {
			return nil, fmt.Errorf("weighted waypoint: %w", err)
		}
		if g == nil {
			return nil, fmt.Errorf("weighted waypoint without a destination")
		}
		s.Waypoints = append(s.Waypoints, state.WeightedGateway{Gateway: *g, Weight: w.GetWeight()})
	}
	if s.Balancing, err = toBalancing(m.GetLoadBalancing()); err != nil {
		return nil, fmt.Errorf("load balancing: %w", err)
	}
	switch f := m.GetIpFamilies(); f {
	case workload.IPFamilies_AUTOMATIC, workload.IPFamilies_IPV4_ONLY, workload.IPFamilies_IPV6_ONLY, workload.IPFamilies_DUAL:
		s.Families = state.Families(f)
	default:
		return nil, fmt.Errorf("unknown ip families %d", f)
	}
	return s, nil
}

func toBalancing(m *workload.LoadBalancing) (state.Balancing, error) {
	var b state.Balancing
	switch mode := m.GetMode(); mode {
	case workload.LoadBalancing_UNSPECIFIED_MODE, workload.LoadBalancing_STRICT, workload.LoadBalancing_FAILOVER, workload.LoadBalancing_PASSTHROUGH:
		b.Mode = state.Mode(mode)
	default:
		return b, fmt.Errorf("unknown mode %d", mode)
	}
	for _, scope := range m.GetRoutingPreference() {
		if scope < workload.LoadBalancing_REGION || scope > workload.LoadBalancing_NETWORK {
			return b, fmt.Errorf("unknown scope %d", scope)
		}
		b.Preference = append(b.Preference, state.Scope(scope))
	}
	switch m.GetHealthPolicy() {
	case workload.LoadBalancing_ONLY_HEALTHY:
	case workload.LoadBalancing_ALLOW_ALL:
		b.AllowAll = true
	default:
		return b, fmt.Errorf("unknown health policy %d", m.GetHealthPolicy())
	}
	return b, nil
}
