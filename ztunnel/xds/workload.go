package xds

import (
	"errors"
	"fmt"
	"slices"

	"github.com/ambit-mesh/ambit/controller/api/workload"
	"github.com/ambit-mesh/ambit/ztunnel/state"
)

// What a workload is if it does not say (ztunnel.md 6.1).
const (
	defaultTrustDomain    = "cluster.local"
	defaultServiceAccount = "default"
	defaultCluster        = "Kubernetes"
)

func toWorkload(m *workload.Workload) (*state.Workload, error) {
	w := &state.Workload{
		UID:      m.GetUid(),
		Name:     m.GetName(),
		Capacity: 1,
		Place: &state.Place{
			Node:    m.GetNode(),
			Region:  m.GetLocality().GetRegion(),
			Zone:    m.GetLocality().GetZone(),
			Subzone: m.GetLocality().GetSubzone(),
		},
	}
	if w.UID == "" {
		return nil, errors.New("empty uid")
	}
	if m.GetCapacity() != nil {
		w.Capacity = m.GetCapacity().GetValue()
	}
	switch m.GetStatus() {
	case workload.WorkloadStatus_HEALTHY:
	case workload.WorkloadStatus_UNHEALTHY:
		w.Unhealthy = true
	default:
		return nil, fmt.Errorf("unknown status %d", m.GetStatus())
	}
	for _, b := range m.GetAddresses() {
		ip, err := toAddr(b)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(w.Addresses, ip) {
			w.Addresses = append(w.Addresses, ip)
		}
	}
	w.Addresses = slices.Clip(w.Addresses)
	var err error
	if w.Profile, err = toProfile(m); err != nil {
		return nil, err
	}
	return w, checkTexts(w)
}

func checkTexts(w *state.Workload) error {
	for _, t := range [][2]string{
		{"uid", w.UID},
		{"name", w.Name},
		{"network", w.Network},
		{"cluster", w.ClusterID},
		{"node", w.Node},
		{"region", w.Region},
		{"zone", w.Zone},
		{"subzone", w.Subzone},
		{"canonical name", w.CanonicalName},
		{"canonical revision", w.CanonicalRevision},
		{"workload name", w.WorkloadName()},
		{"hostname", w.Hostname},
	} {
		if err := text(t[0], t[1]); err != nil {
			return err
		}
	}
	return label("namespace", w.Namespace)
}

func toProfile(m *workload.Workload) (*state.Profile, error) {
	p := &state.Profile{
		Namespace:         m.GetNamespace(),
		TrustDomain:       or(m.GetTrustDomain(), defaultTrustDomain),
		ServiceAccount:    or(m.GetServiceAccount(), defaultServiceAccount),
		Network:           m.GetNetwork(),
		ClusterID:         or(m.GetClusterId(), defaultCluster),
		CanonicalName:     m.GetCanonicalName(),
		CanonicalRevision: m.GetCanonicalRevision(),
		Controller:        m.GetWorkloadName(),
		NativeTunnel:      m.GetNativeTunnel(),
		Hostname:          m.GetHostname(),
	}
	id := (&state.Workload{Profile: p}).Identity()
	if err := id.Validate(); err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	if err := setKinds(p, m); err != nil {
		return nil, err
	}
	var err error
	if p.AppTunnel, err = toAppTunnel(m.GetApplicationTunnel()); err != nil {
		return nil, err
	}
	if p.Waypoint, err = toGateway(m.GetWaypoint()); err != nil {
		return nil, fmt.Errorf("waypoint: %w", err)
	}
	if p.Gateway, err = toGateway(m.GetNetworkGateway()); err != nil {
		return nil, fmt.Errorf("network gateway: %w", err)
	}
	if p.Policies, err = toKeys(m.GetAuthorizationPolicies()); err != nil {
		return nil, fmt.Errorf("authorization policies: %w", err)
	}
	if p.Services, err = toMemberships(m.GetServices()); err != nil {
		return nil, fmt.Errorf("services: %w", err)
	}
	return p, nil
}

func setKinds(p *state.Profile, m *workload.Workload) error {
	switch m.GetWorkloadType() {
	case workload.WorkloadType_DEPLOYMENT:
		p.Kind = state.KindDeployment
	case workload.WorkloadType_CRONJOB:
		p.Kind = state.KindCronJob
	case workload.WorkloadType_POD:
		p.Kind = state.KindPod
	case workload.WorkloadType_JOB:
		p.Kind = state.KindJob
	default:
		return fmt.Errorf("unknown workload type %d", m.GetWorkloadType())
	}
	switch m.GetTunnelProtocol() {
	case workload.TunnelProtocol_NONE:
	case workload.TunnelProtocol_HBONE:
		p.Tunnel = state.TunnelHBONE
	default: // LEGACY_ISTIO_MTLS among them: plain text would be wrong there, and so would a tunnel
		return fmt.Errorf("unsupported tunnel protocol %s", m.GetTunnelProtocol())
	}
	switch m.GetNetworkMode() {
	case workload.NetworkMode_STANDARD:
	case workload.NetworkMode_HOST_NETWORK:
		p.HostNetwork = true
	default:
		return fmt.Errorf("unknown network mode %d", m.GetNetworkMode())
	}
	return nil
}

func toAppTunnel(m *workload.ApplicationTunnel) (state.AppTunnel, error) {
	if m == nil {
		return state.AppTunnel{}, nil
	}
	t := state.AppTunnel{Present: true}
	switch m.GetProtocol() {
	case workload.ApplicationTunnel_NONE:
	case workload.ApplicationTunnel_PROXY:
		t.Proxy = true
	default:
		return t, fmt.Errorf("unknown application tunnel protocol %d", m.GetProtocol())
	}
	var err error
	t.Port, err = toPort("application tunnel port", m.GetPort())
	return t, err
}

func toGateway(m *workload.GatewayAddress) (*state.Gateway, error) {
	if m == nil {
		return nil, nil
	}
	port, err := toPort("port", m.GetHboneMtlsPort())
	if err != nil {
		return nil, err
	}
	if port == 0 {
		return nil, errors.New("no hbone port")
	}
	g := &state.Gateway{Port: port}
	switch d := m.GetDestination().(type) {
	case *workload.GatewayAddress_Hostname:
		g.Host = state.Key{Namespace: d.Hostname.GetNamespace(), Name: d.Hostname.GetHostname()}
		if err := label("namespace", g.Host.Namespace); err != nil {
			return nil, err
		}
		return g, label("hostname", g.Host.Name)
	case *workload.GatewayAddress_Address:
		g.Addr.Network = d.Address.GetNetwork()
		if g.Addr.IP, err = toAddr(d.Address.GetAddress()); err != nil {
			return nil, err
		}
		return g, text("network", g.Addr.Network)
	default:
		return nil, errors.New("no destination")
	}
}

// toKeys reads policy names, sorted and each once.
func toKeys(names []string) ([]state.Key, error) {
	var out []state.Key
	for _, name := range names {
		k, ok := state.ParseKey(name)
		if !ok {
			return nil, fmt.Errorf("%s: want namespace/name", quote(name))
		}
		if err := text("name", name); err != nil {
			return nil, err
		}
		out = append(out, k)
	}
	slices.SortFunc(out, state.Key.Compare)
	return slices.Compact(out), nil
}

// toMemberships reads the services of a workload, sorted.
func toMemberships(services map[string]*workload.PortList) ([]state.Membership, error) {
	out := make([]state.Membership, 0, len(services))
	for name, list := range services {
		k, ok := state.ParseKey(name)
		if !ok {
			return nil, fmt.Errorf("%s: want namespace/hostname", quote(name))
		}
		if err := text("name", name); err != nil {
			return nil, err
		}
		ports, err := toPorts(list.GetPorts())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", quote(name), err)
		}
		out = append(out, state.Membership{Service: k, Ports: ports})
	}
	slices.SortFunc(out, func(a, b state.Membership) int { return a.Service.Compare(b.Service) })
	return out, nil
}

func toPorts(list []*workload.Port) ([]state.Port, error) {
	out := make([]state.Port, 0, len(list))
	for _, m := range list {
		service, err := toPort("service port", m.GetServicePort())
		if err != nil {
			return nil, err
		}
		target, err := toPort("target port", m.GetTargetPort())
		if err != nil {
			return nil, err
		}
		if service == 0 {
			return nil, errors.New("service port 0")
		}
		out = append(out, state.Port{Service: service, Target: target})
	}
	return out, nil
}

func or(s, def string) string {
	if s == "" {
		return def
	}
	return s
}

// toNetworkAddrs reads the virtual addresses of a service: single ones and ranges.
func toNetworkAddrs(list []*workload.NetworkAddress) (vips []state.NetworkAddr, cidrs []state.NetworkPrefix, err error) {
	for _, m := range list {
		if err := text("network", m.GetNetwork()); err != nil {
			return nil, nil, err
		}
		bits := uint32(8 * len(m.GetAddress()))
		if m.Length != nil {
			bits = m.GetLength()
		}
		p, err := toPrefix(m.GetAddress(), bits)
		if err != nil {
			return nil, nil, err
		}
		if p.IsSingleIP() {
			vips = addOnce(vips, state.NetworkAddr{Network: m.GetNetwork(), IP: p.Addr()})
		} else {
			cidrs = addOnce(cidrs, state.NetworkPrefix{Network: m.GetNetwork(), Prefix: p})
		}
	}
	return vips, cidrs, nil
}

func addOnce[T comparable](list []T, v T) []T {
	if slices.Contains(list, v) {
		return list
	}
	return append(list, v)
}
