package route

import (
	"slices"

	"github.com/ambit-mesh/ambit/ztunnel/state"
)

// waypointOf is the waypoint of a service: one of the weighted ones, or the single one.
func waypointOf(svc *state.Service, pick Pick) (*state.Gateway, bool) {
	total := 0
	for _, w := range svc.Waypoints {
		total += int(w.Weight)
	}
	if total == 0 {
		return svc.Waypoint, svc.Waypoint != nil
	}
	n := pick(total)
	for i := range svc.Waypoints {
		n -= int(svc.Waypoints[i].Weight)
		if n < 0 {
			return &svc.Waypoints[i].Gateway, true
		}
	}
	return svc.Waypoint, svc.Waypoint != nil
}

// viaWaypoint sends the connection, destination unchanged, to a waypoint.
func (r *resolver) viaWaypoint(gw *state.Gateway) Plan {
	h, ok := r.gateway(gw)
	if !ok {
		return Plan{Reason: WaypointUnresolved}
	}
	if h.workload.Network != r.src.Network {
		return r.acrossNetworks(h.workload)
	}
	p := Plan{
		Kind: Waypoint, Reason: ToWaypoint, Authority: r.f.Destination.String(),
		Identities: h.identities(), Destination: h.workload,
	}
	p = r.locate(p, hop{workload: h.workload, service: h.service}, h.port, p.Target)
	if p.Kind != Waypoint {
		return Plan{Reason: WaypointUnresolved, Destination: h.workload}
	}
	p.Service = nil // the waypoint's own service is not what the application addressed
	return p
}

// gateway chooses the workload behind a reference to a waypoint or network gateway (ztunnel.md 3.4).
func (r *resolver) gateway(gw *state.Gateway) (hop, bool) {
	svc, w := lookUp(r.s, gw, r.src.Namespace)
	if svc != nil {
		h, _ := r.balance(svc, gw.Port, true)
		return h, h.workload != nil
	}
	return hop{workload: w, port: gw.Port}, w != nil && !slices.Contains(r.f.Avoid, w.UID)
}

// lookUp finds the service, or else the workload, that a reference names.
func lookUp(s *state.Snapshot, gw *state.Gateway, client string) (*state.Service, *state.Workload) {
	if gw.ByHost() {
		if svc := s.Service(gw.Host); svc != nil {
			return svc, nil
		}
		return nil, s.WorkloadByHostname(gw.Host)
	}
	if svc := s.ServiceAt(gw.Addr, client); svc != nil {
		return svc, nil
	}
	return nil, s.WorkloadAt(gw.Addr)
}

// isWaypoint reports whether the connecting workload is (a replica of) the waypoint itself, which must reach the
// workloads behind it directly. That the connection is the workload's own is known from the socket it came from.
func (r *resolver) isWaypoint(gw *state.Gateway) bool { return serves(r.s, gw, r.src) }

// serves reports whether w is what a reference names, or an endpoint of it.
func serves(s *state.Snapshot, gw *state.Gateway, w *state.Workload) bool {
	svc, one := lookUp(s, gw, w.Namespace)
	if svc != nil {
		return s.Endpoints(svc.Key()).Find(w.UID) != nil
	}
	return one != nil && one.UID == w.UID
}

// acrossNetworks tunnels through the gateway into the network of w: double HBONE. Only services can be named there, and
// only their stated identities tell who must answer.
func (r *resolver) acrossNetworks(w *state.Workload) Plan {
	switch {
	case r.service == nil:
		return Plan{Reason: CrossNetwork, Destination: w}
	case w.Gateway == nil:
		return Plan{Reason: GatewayMissing, Destination: w}
	case len(r.service.SANs) == 0:
		return Plan{Reason: NoIdentity, Destination: w}
	}
	h, ok := r.gateway(w.Gateway)
	if !ok {
		return Plan{Reason: GatewayMissing, Destination: w}
	}
	p := Plan{
		Kind: Gateway, Reason: ToGateway, Authority: hostPort(r.service, r.f.Destination.Port()),
		Identities: h.identities(), InnerIdentities: r.service.SANs, Destination: h.workload, Endpoint: w,
	}
	p = r.locate(p, hop{workload: h.workload, service: h.service}, h.port, p.Target)
	if p.Kind != Gateway {
		return Plan{Reason: GatewayMissing, Destination: h.workload}
	}
	p.Service = nil
	return p
}
