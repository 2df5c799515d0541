package route

import (
	"net/netip"
	"slices"
	"strconv"

	"github.com/ambit-mesh/ambit/controller/api/spiffe"
	"github.com/ambit-mesh/ambit/ztunnel/state"
)

// Resolve says where a connection goes. The rules, in the order they are applied (ztunnel.md 3.1; each has scenarios in
// testdata):
//
//	#   situation                                                       plan
//	1   the destination port is one of the mesh's own, on loopback     refuse IllegalPort
//	2   no first full synchronisation yet                              hold NotSynced
//	3   the connecting workload is not known                           hold SourceUnknown
//	4   the address is a service's, and the service has a waypoint     waypoint, or gateway if it is in another network,
//	                                                                   or refuse WaypointUnresolved: never past it
//	5   a service that wants its address left alone                    direct PassthroughMode
//	6   a service without usable endpoint, or without that port        refuse NoEndpoints, NoServicePort
//	7   nobody known has the address, and it is in the mesh's ranges   hold AddressUnknown
//	8   nobody known has the address                                   direct Unknown, or refuse IllegalPort
//	9   the endpoint is in another network                             gateway, or refuse GatewayMissing, CrossNetwork,
//	                                                                   NoIdentity
//	10  a workload was addressed, it has a waypoint, and the source    waypoint, or refuse WaypointUnresolved
//	    is not that waypoint
//	11  the endpoint takes no tunnel                                   direct NoTunnel
//	12  the endpoint is on this node                                   same-node
//	13  otherwise                                                      hbone
func Resolve(s *state.Snapshot, f Flow, pick Pick) Plan {
	f.Destination = unmap(f.Destination)
	f.Client = unmap(f.Client)
	p := resolve(s, f, pick)
	p.Version = s.Version()
	return p
}

func resolve(s *state.Snapshot, f Flow, pick Pick) Plan {
	ip := f.Destination.Addr()
	if ip.IsLoopback() && meshPort(f.Destination.Port()) {
		return Plan{Reason: IllegalPort}
	}
	if !s.Synced() {
		return Plan{Kind: Hold, Reason: NotSynced}
	}
	src := s.Workload(f.Source)
	if src == nil {
		return Plan{Kind: Hold, Reason: SourceUnknown}
	}
	r := resolver{s: s, f: f, src: src, pick: pick}
	r.service = addressedService(s, f, src)
	p := r.plan()
	p.Source = src
	if p.Service == nil {
		p.Service = r.service
	}
	return p
}

// resolver carries the question through the steps.
type resolver struct {
	s       *state.Snapshot
	f       Flow
	src     *state.Workload
	service *state.Service // what the application addressed, if that is a service
	pick    Pick
}

// addressedService is the service that has the destination address, unless a workload has it.
func addressedService(s *state.Snapshot, f Flow, src *state.Workload) *state.Service {
	at := state.NetworkAddr{Network: s.Network(), IP: f.Destination.Addr()}
	if s.WorkloadAt(at) != nil {
		return nil
	}
	return s.ServiceAt(at, src.Namespace)
}

func (r *resolver) plan() Plan {
	if r.service != nil {
		if gw, ok := waypointOf(r.service, r.pick); ok {
			return r.viaWaypoint(gw)
		}
	}
	at := state.NetworkAddr{Network: r.src.Network, IP: r.f.Destination.Addr()}
	if svc := r.s.ServiceAt(at, r.src.Namespace); svc != nil {
		return r.toService(svc)
	}
	if w := r.s.WorkloadAt(at); w != nil {
		return r.toEndpoint(hop{workload: w, port: r.f.Destination.Port()})
	}
	if meshPort(r.f.Destination.Port()) {
		return Plan{Reason: IllegalPort}
	}
	if r.s.InMesh(r.f.Destination.Addr()) {
		return Plan{Kind: Hold, Reason: AddressUnknown}
	}
	return r.direct(Unknown)
}

// direct connects to the address as it was dialled.
func (r *resolver) direct(why Reason) Plan {
	return Plan{Kind: Direct, Reason: why, Dial: r.f.Destination, Target: r.f.Destination}
}

func (r *resolver) toService(svc *state.Service) Plan {
	if svc.Balancing.Mode == state.ModePassthrough {
		p := r.direct(PassthroughMode)
		p.Service = svc
		return p
	}
	h, why := r.balance(svc, r.f.Destination.Port(), false)
	if h.workload == nil {
		return Plan{Reason: why, Service: svc}
	}
	return r.toEndpoint(h)
}

// hop is a chosen workload, the port meant there, and the service through which it was chosen, if any.
type hop struct {
	workload *state.Workload
	port     uint16
	service  *state.Service
}

// identities are those that the workload may show: its own, or one that the service states.
func (h hop) identities() []spiffe.ID {
	own := h.workload.Identity()
	if h.service == nil || len(h.service.SANs) == 0 {
		return []spiffe.ID{own}
	}
	return append(slices.Clip(h.service.SANs), own)
}

// balance chooses an endpoint of a service.
func (r *resolver) balance(svc *state.Service, port uint16, forWaypoint bool) (hop, Reason) {
	if _, ok := svc.Port(port); !ok && !forWaypoint {
		return hop{}, NoServicePort
	}
	w := choose(tiersOf(svc, r.s.Endpoints(svc.Key()), r.src, port, forWaypoint), r.f.Avoid, r.pick)
	if w == nil {
		return hop{}, NoEndpoints
	}
	target, ok := targetPort(svc, w, port)
	if !ok {
		return hop{}, NoServicePort
	}
	return hop{workload: w, port: target, service: svc}, ToWorkload
}

// toEndpoint reaches a workload that serves the application's request.
func (r *resolver) toEndpoint(h hop) Plan {
	w := h.workload
	if w.Network != r.src.Network {
		return r.acrossNetworks(w)
	}
	if r.service == nil && w.Waypoint != nil && !r.isWaypoint(w.Waypoint) {
		return r.viaWaypoint(w.Waypoint)
	}
	if slices.Contains(r.f.Avoid, w.UID) {
		return Plan{Reason: NoEndpoints, Destination: w}
	}
	p := Plan{Kind: Direct, Reason: NoTunnel, Destination: w, Service: h.service}
	port := h.port
	if w.Tunnel == state.TunnelHBONE {
		p.Kind, p.Reason, p.Identities = HBONE, ToWorkload, h.identities()
		if w.Node != "" && w.Node == r.src.Node && w.ClusterID == r.src.ClusterID {
			p.Kind = SameNode
		}
		port = HBONEPort
	}
	return r.locate(p, h, port, netip.AddrPortFrom(netip.Addr{}, h.port))
}

// locate fills in the addresses of a plan for a workload: the port to dial there and the target behind it.
func (r *resolver) locate(p Plan, h hop, dial uint16, target netip.AddrPort) Plan {
	ip, ok := addressOf(h.workload, h.service, r.f.Destination.Addr())
	p.Dial, p.Target = netip.AddrPortFrom(ip, dial), target
	switch {
	case ok:
		return p.At(ip)
	case h.workload.Hostname != "":
		p.HostName = h.workload.Hostname
		return p
	default:
		return Plan{Reason: NoAddress, Service: h.service, Destination: h.workload}
	}
}

// addressOf chooses among a workload's addresses (ztunnel.md 3.2): the dialled one, else one of the same family, else
// the first, of those that the service accepts.
func addressOf(w *state.Workload, svc *state.Service, dialled netip.Addr) (netip.Addr, bool) {
	if w.Has(dialled) {
		return dialled, true
	}
	var first netip.Addr
	for _, ip := range w.Addresses {
		if svc != nil && !svc.Families.Accepts(ip) {
			continue
		}
		if ip.Is4() == dialled.Is4() {
			return ip, true
		}
		if !first.IsValid() {
			first = ip
		}
	}
	return first, first.IsValid()
}

// hostPort is the authority for a service in another network.
func hostPort(svc *state.Service, port uint16) string {
	return svc.Hostname + ":" + strconv.Itoa(int(port))
}

func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// meshPort reports whether a port is one of the mesh's own listeners in every pod: connecting to it would loop.
func meshPort(port uint16) bool { return port == 15001 || port == 15006 || port == HBONEPort }
