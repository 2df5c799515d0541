package dump

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/ambit-mesh/ambit/controller/api/spiffe"
	"github.com/ambit-mesh/ambit/ztunnel/state"
)

// Restore rebuilds the snapshot, so that route and policy answer as they did when the document was made. Its Version is
// not the original's: that is d.Snapshot.Version.
func (d Document) Restore() (*state.Snapshot, error) {
	u := &state.Update{Synced: state.TypesAll}
	var cfg state.Config
	if d.Snapshot != nil {
		cfg = state.Config{Node: d.Snapshot.Node, Network: d.Snapshot.Network, Ranges: d.Snapshot.Ranges}
		if !d.Snapshot.Synced {
			u.Synced = 0
		}
	}
	var errs []error
	for _, p := range d.Policies {
		policy, err := toPolicy(p)
		if err != nil {
			errs = append(errs, fmt.Errorf("policy %s/%s: %w", p.Namespace, p.Name, err))
			continue
		}
		u.Policies = append(u.Policies, policy)
	}
	for _, s := range d.Services {
		service, err := toService(s)
		if err != nil {
			errs = append(errs, fmt.Errorf("service %s/%s: %w", s.Namespace, s.Hostname, err))
			continue
		}
		u.Services = append(u.Services, service)
	}
	for _, w := range d.Workloads {
		workload, err := toWorkload(w)
		if err != nil {
			errs = append(errs, fmt.Errorf("workload %s: %w", w.UID, err))
			continue
		}
		u.Workloads = append(u.Workloads, workload)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return state.NewStore(cfg).Apply(u), nil
}

func toWorkload(d Workload) (*state.Workload, error) {
	if d.UID == "" {
		return nil, errors.New("no uid")
	}
	tunnel, err := indexOf("protocol", protocols, d.Protocol)
	if err != nil {
		return nil, err
	}
	kind, err := indexOf("workload type", kinds, strings.ToLower(or(d.WorkloadType, kinds[0])))
	if err != nil {
		return nil, err
	}
	p := &state.Profile{
		Namespace: d.Namespace, TrustDomain: or(d.TrustDomain, "cluster.local"), ServiceAccount: or(d.ServiceAccount, "default"),
		Network: d.Network, ClusterID: d.ClusterID, CanonicalName: d.CanonicalName, CanonicalRevision: d.CanonicalRev,
		Controller: d.WorkloadName, Kind: state.Kind(kind), Tunnel: state.Tunnel(tunnel), HostNetwork: d.NetworkMode == "HostNetwork",
		NativeTunnel: d.NativeTunnel, Hostname: d.Hostname,
	}
	if d.AppTunnel != nil {
		p.AppTunnel = state.AppTunnel{Present: true, Proxy: d.AppTunnel.Protocol == "PROXY", Port: d.AppTunnel.Port}
	}
	if p.Waypoint, err = toGateway(d.Waypoint); err != nil {
		return nil, err
	}
	if p.Gateway, err = toGateway(d.NetworkGateway); err != nil {
		return nil, err
	}
	for _, name := range d.Policies {
		k, ok := state.ParseKey(name)
		if !ok {
			return nil, fmt.Errorf("policy %.80q: want namespace/name", name)
		}
		p.Policies = append(p.Policies, k)
	}
	for _, name := range d.Services {
		k, ok := state.ParseKey(name)
		if !ok {
			return nil, fmt.Errorf("service %.80q: want namespace/hostname", name)
		}
		p.Services = append(p.Services, state.Membership{Service: k, Ports: toPorts(d.ServicePorts[name])})
	}
	place := &state.Place{Node: d.Node}
	if d.Locality != nil {
		place.Region, place.Zone, place.Subzone = d.Locality.Region, d.Locality.Zone, d.Locality.Subzone
	}
	return &state.Workload{
		UID: d.UID, Name: d.Name, Addresses: d.WorkloadIPs, Profile: p, Place: place, Capacity: d.Capacity,
		Unhealthy: d.Status == "Unhealthy",
	}, nil
}

func toService(d Service) (*state.Service, error) {
	s := &state.Service{
		Name: d.Name, Namespace: d.Namespace, Hostname: d.Hostname, Ports: toPorts(d.Ports), Canonical: d.Canonical,
		Restricted: d.Visibility == "Namespace",
	}
	family, err := indexOf("ip families", families, d.IPFamilies)
	if err != nil {
		return nil, err
	}
	s.Families = state.Families(family)
	for _, v := range d.VIPs {
		a, err := toNetworkAddr(v)
		if err != nil {
			return nil, err
		}
		s.VIPs = append(s.VIPs, a)
	}
	for _, c := range d.CIDRVIPs {
		s.CIDRs = append(s.CIDRs, state.NetworkPrefix{Network: c.Network, Prefix: c.CIDR})
	}
	for _, name := range d.SubjectAltNames {
		if id, err := spiffe.Parse(name); err == nil { // others are none to expect, as on the wire
			s.SANs = append(s.SANs, id)
		}
	}
	if s.Waypoint, err = toGateway(d.Waypoint); err != nil {
		return nil, err
	}
	for _, w := range d.WeightedWaypoints {
		g, err := toGateway(&w.Destination)
		if err != nil {
			return nil, err
		}
		s.Waypoints = append(s.Waypoints, state.WeightedGateway{Gateway: *g, Weight: w.Weight})
	}
	if lb := d.LoadBalancer; lb != nil {
		mode, err := indexOf("mode", modes, lb.Mode)
		if err != nil {
			return nil, err
		}
		s.Balancing = state.Balancing{Mode: state.Mode(mode), AllowAll: lb.HealthPolicy == "AllowAll"}
		for _, p := range lb.RoutingPreferences {
			scope, err := indexOf("routing preference", scopes[1:], p)
			if err != nil {
				return nil, err
			}
			s.Balancing.Preference = append(s.Balancing.Preference, state.Scope(scope+1))
		}
	}
	return s, nil
}

// toGateway reads "network/ip", where the network may be empty, or "namespace/hostname".
func toGateway(d *Gateway) (*state.Gateway, error) {
	if d == nil {
		return nil, nil
	}
	if a, err := toNetworkAddr(d.Destination); err == nil {
		return &state.Gateway{Addr: a, Port: d.HBONEMTLSPort}, nil
	}
	k, ok := state.ParseKey(d.Destination)
	if !ok {
		return nil, fmt.Errorf("gateway %.80q: want network/ip or namespace/hostname", d.Destination)
	}
	return &state.Gateway{Host: k, Port: d.HBONEMTLSPort}, nil
}

func toNetworkAddr(s string) (state.NetworkAddr, error) {
	i := strings.LastIndexByte(s, '/')
	if i < 0 {
		return state.NetworkAddr{}, fmt.Errorf("address %.80q: want network/ip", s)
	}
	ip, err := netip.ParseAddr(s[i+1:])
	if err != nil {
		return state.NetworkAddr{}, fmt.Errorf("address %.80q: %w", s, err)
	}
	return state.NetworkAddr{Network: s[:i], IP: ip}, nil
}

func toPorts(p Ports) (list []state.Port) {
	for service, target := range p {
		list = append(list, state.Port{Service: service, Target: target})
	}
	slices.SortFunc(list, func(a, b state.Port) int { return int(a.Service) - int(b.Service) })
	return list
}

// indexOf finds a word of an enumeration.
func indexOf(what string, words []string, word string) (int, error) {
	i := slices.Index(words, word)
	if i < 0 {
		return 0, fmt.Errorf("unknown %s %.40q", what, word)
	}
	return i, nil
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
