package dump

import (
	"github.com/ambit-mesh/ambit/ztunnel/state"
)

// The words of the enumerations, by the numbers of state.
var (
	protocols = []string{"TCP", "HBONE"}
	kinds     = []string{"deployment", "cronjob", "pod", "job"}
	modes     = []string{"Standard", "Strict", "Failover", "Passthrough"}
	scopes    = []string{"", "Region", "Zone", "Subzone", "Node", "Cluster", "Network"}
	families  = []string{"", "IPv4", "IPv6", "Dual"}
	polScopes = []string{"Global", "Namespace", "WorkloadSelector"}
	actions   = []string{"Deny", "Allow"}
)

func ofWorkload(w *state.Workload) Workload {
	d := Workload{
		UID: w.UID, Name: w.Name, Namespace: w.Namespace, WorkloadIPs: w.Addresses, Protocol: protocols[w.Tunnel],
		Status: status(w), ClusterID: w.ClusterID, Capacity: w.Capacity, NetworkMode: pick(w.HostNetwork, "HostNetwork", "Standard"),
		Waypoint: ofGateway(w.Waypoint), NetworkGateway: ofGateway(w.Gateway), TrustDomain: w.TrustDomain,
		ServiceAccount: w.ServiceAccount, Network: w.Network, WorkloadName: w.WorkloadName(), WorkloadType: kinds[w.Kind],
		CanonicalName: w.CanonicalName, CanonicalRev: w.CanonicalRevision, Hostname: w.Hostname, Node: w.Node,
		NativeTunnel: w.NativeTunnel,
	}
	if w.AppTunnel.Present {
		d.AppTunnel = &AppTunnel{Protocol: pick(w.AppTunnel.Proxy, "PROXY", "NONE"), Port: w.AppTunnel.Port}
	}
	for _, k := range w.Policies {
		d.Policies = append(d.Policies, k.String())
	}
	if l := (Locality{w.Region, w.Zone, w.Subzone}); l != (Locality{}) {
		d.Locality = &l
	}
	for _, m := range w.Services {
		if d.ServicePorts == nil {
			d.ServicePorts = map[string]Ports{}
		}
		d.Services = append(d.Services, m.Service.String())
		d.ServicePorts[m.Service.String()] = ofPorts(m.Ports)
	}
	return d
}

func ofService(s *state.Service, endpoints *state.Endpoints) Service {
	d := Service{
		Name: s.Name, Namespace: s.Namespace, Hostname: s.Hostname, VIPs: []string{}, Ports: ofPorts(s.Ports),
		Endpoints: map[string]Endpoint{}, SubjectAltNames: []string{}, Canonical: s.Canonical,
		Visibility: pick(s.Restricted, "Namespace", "Public"), Waypoint: ofGateway(s.Waypoint), IPFamilies: families[s.Families],
	}
	for _, a := range s.VIPs {
		d.VIPs = append(d.VIPs, a.Network+"/"+a.IP.String())
	}
	for _, c := range s.CIDRs {
		d.CIDRVIPs = append(d.CIDRVIPs, CIDR{c.Network, c.Prefix})
	}
	for _, id := range s.SANs {
		d.SubjectAltNames = append(d.SubjectAltNames, id.String())
	}
	for _, w := range s.Waypoints {
		d.WeightedWaypoints = append(d.WeightedWaypoints, WeightedGateway{*ofGateway(&w.Gateway), w.Weight})
	}
	if b := s.Balancing; b.Mode != state.ModeAny || b.AllowAll || len(b.Preference) > 0 {
		d.LoadBalancer = &LoadBalancer{
			RoutingPreferences: []string{}, Mode: modes[b.Mode], HealthPolicy: pick(b.AllowAll, "AllowAll", "OnlyHealthy"),
		}
		for _, p := range b.Preference {
			d.LoadBalancer.RoutingPreferences = append(d.LoadBalancer.RoutingPreferences, scopes[p])
		}
	}
	for _, w := range endpoints.All() {
		m, _ := w.Membership(s.Key())
		d.Endpoints[w.UID] = Endpoint{WorkloadUID: w.UID, Port: ofPorts(m.Ports), Status: status(w)}
	}
	return d
}

func ofGateway(g *state.Gateway) *Gateway {
	if g == nil {
		return nil
	}
	if g.ByHost() {
		return &Gateway{Destination: g.Host.String(), HBONEMTLSPort: g.Port}
	}
	return &Gateway{Destination: g.Addr.Network + "/" + g.Addr.IP.String(), HBONEMTLSPort: g.Port}
}

func ofPorts(list []state.Port) Ports {
	p := Ports{}
	for _, m := range list {
		p[m.Service] = m.Target
	}
	return p
}

func status(w *state.Workload) string { return pick(w.Unhealthy, "Unhealthy", "Healthy") }

func pick(cond bool, yes, no string) string {
	if cond {
		return yes
	}
	return no
}
