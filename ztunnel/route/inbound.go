package route

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/ambit-mesh/ambit/ztunnel/state"
)

// Arrival is a CONNECT request that reached a pod of this node.
type Arrival struct {
	Workload  string         // UID of the pod that was dialled
	Peer      netip.AddrPort // TCP peer
	Dialled   netip.AddrPort // local address of the tunnel's TCP connection
	Authority string         // :authority of the request
}

// Entry says where an arriving connection goes within its pod. The zero value refuses.
type Entry struct {
	// Status is what to answer if it is not 0: 400 or 503. With 0 the connection may be judged and connected.
	Status int
	Reason Reason
	// Target is the pod's address and the port of the application: what policy judges.
	Target netip.AddrPort
	// Connect is where to connect: Target, or loopback where the application tunnel wants PROXY.
	Connect netip.AddrPort
	// Proxy: write a PROXY v2 header first. ProxyDestination is the destination to state in it.
	Proxy            bool
	ProxyDestination netip.AddrPort

	Workload *state.Workload
	Service  *state.Service // the service the authority names or the port belongs to; may be nil
	Version  uint64
}

// ResolveInbound says where a CONNECT request goes within the pod it reached. The address is always the pod's own; the
// authority chooses the port. The rules, in order (ztunnel.md 4.1):
//
//	#  situation                                                            answer
//	1  no first full synchronisation, or the pod is not known               503 NotSynced, SourceUnknown
//	2  the authority is neither ip:port nor host:port                       400 AuthorityInvalid
//	3  an address that is not the dialled one, unless the pod is behind a   400 AuthorityMismatch
//	   tunnel of its own, or is the waypoint of that address
//	4  a name that is no service visible to the pod                         503 ServiceUnknown
//	5  a name, and the pod's port for it is not known                       503 NoServicePort
//	6  a port of the mesh itself                                            503 IllegalPort
//	7  PROXY is wanted and the named service has no address to state        503 NoAddress
//	8  otherwise                                                            ToWorkload
func ResolveInbound(s *state.Snapshot, a Arrival) Entry {
	a.Dialled, a.Peer = unmap(a.Dialled), unmap(a.Peer)
	e := resolveInbound(s, a)
	e.Version = s.Version()
	return e
}

func resolveInbound(s *state.Snapshot, a Arrival) Entry {
	if !s.Synced() {
		return Entry{Status: 503, Reason: NotSynced}
	}
	w := s.Workload(a.Workload)
	if w == nil {
		return Entry{Status: 503, Reason: SourceUnknown}
	}
	e := Entry{Workload: w}
	host, meant, ok := parseAuthority(a.Authority)
	if !ok {
		return e.refuse(400, AuthorityInvalid)
	}
	port := meant.Port()
	if host == "" {
		if !expects(s, w, meant.Addr(), a.Dialled.Addr()) {
			return e.refuse(400, AuthorityMismatch)
		}
	} else {
		if e.Service = s.ServiceNamed(host, w.Namespace); e.Service == nil {
			return e.refuse(503, ServiceUnknown)
		}
		if port, ok = targetPort(e.Service, w, port); !ok {
			return e.refuse(503, NoServicePort)
		}
	}
	if meshPort(port) || port == dnsPort {
		return e.refuse(503, IllegalPort)
	}
	if w.AppTunnel.Port != 0 {
		port = w.AppTunnel.Port
	}
	e.Reason = ToWorkload
	e.Target = netip.AddrPortFrom(a.Dialled.Addr(), port)
	e.Connect = e.Target
	if e.Service == nil {
		e.Service = serviceByTarget(s, w, port)
	}
	if w.AppTunnel.Proxy {
		return e.proxied(s, host, meant)
	}
	return e
}

// dnsPort is where each pod's resolver of the mesh listens, for the pod itself only.
const dnsPort = 15053

// refuse answers with a status.
func (e Entry) refuse(status int, why Reason) Entry {
	return Entry{Status: status, Reason: why, Workload: e.Workload, Service: e.Service}
}

// proxied connects by loopback, with a PROXY header that states what the client asked for.
func (e Entry) proxied(s *state.Snapshot, host string, meant netip.AddrPort) Entry {
	if host != "" {
		vip, ok := vipOf(e.Service, s.Network())
		if !ok {
			return e.refuse(503, NoAddress)
		}
		meant = netip.AddrPortFrom(vip, meant.Port())
	}
	e.Proxy, e.ProxyDestination = true, meant
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if e.Target.Addr().Is6() {
		loopback = netip.IPv6Loopback()
	}
	e.Connect = netip.AddrPortFrom(loopback, e.Target.Port())
	return e
}

// parseAuthority reads ip:port (host is "" then) or host:port.
func parseAuthority(s string) (host string, at netip.AddrPort, ok bool) {
	if at, err := netip.ParseAddrPort(s); err == nil {
		return "", unmap(at), at.Port() != 0 && at.Addr().Zone() == ""
	}
	host, text, ok := strings.Cut(s, ":")
	port, err := strconv.ParseUint(text, 10, 16)
	if !ok || host == "" || err != nil || port == 0 || len(host) > maxHost || strings.ContainsAny(host, "[]/ @") {
		return "", netip.AddrPort{}, false
	}
	return host, netip.AddrPortFrom(netip.Addr{}, uint16(port)), true
}

// maxHost bounds a host name in bytes (RFC 1035).
const maxHost = 253

// expects reports whether a request for ip may arrive at w, dialled at another address or not.
func expects(s *state.Snapshot, w *state.Workload, ip, dialled netip.Addr) bool {
	if ip == dialled || w.AppTunnel.Present {
		return true
	}
	at := state.NetworkAddr{Network: s.Network(), IP: ip}
	if svc := s.ServiceAt(at, w.Namespace); svc != nil {
		for i := range svc.Waypoints {
			if serves(s, &svc.Waypoints[i].Gateway, w) {
				return true
			}
		}
		if svc.Waypoint != nil && serves(s, svc.Waypoint, w) {
			return true
		}
	}
	behind := s.WorkloadAt(at)
	return behind != nil && behind.Waypoint != nil && serves(s, behind.Waypoint, w)
}

// serviceByTarget is the first of the pod's services that leads to a port, for telemetry; nil if none does.
func serviceByTarget(s *state.Snapshot, w *state.Workload, port uint16) *state.Service {
	for _, m := range w.Services {
		svc := s.Service(m.Service)
		if svc == nil {
			continue
		}
		for _, p := range svc.Ports {
			if t, ok := targetPort(svc, w, p.Service); ok && t == port {
				return svc
			}
		}
	}
	return nil
}

// vipOf is the address to state for a service: in this network if it has one there, and IPv4 before IPv6.
func vipOf(svc *state.Service, network string) (netip.Addr, bool) {
	best, score := netip.Addr{}, -1
	for _, v := range svc.VIPs {
		n := 0
		if v.Network == network {
			n += 2
		}
		if v.IP.Is4() {
			n++
		}
		if n > score {
			best, score = v.IP, n
		}
	}
	return best, score >= 0
}
