// Package route answers where a connection goes: Resolve for one leaving a pod of this node, ResolveInbound for one
// arriving at a pod through a tunnel.
//
// It is pure: no I/O, clock or logger, and chance comes in as an argument. It does not judge whether a connection is
// allowed: policy does. The outbound and inbound shells ask it; `ambit why` replays dumps through it. Everything here
// may be called from any goroutine.
package route

import (
	"net/netip"

	"github.com/ambit-mesh/ambit/controller/api/spiffe"
	"github.com/ambit-mesh/ambit/ztunnel/state"
)

// HBONEPort is where workloads take tunnelled connections. Waypoints and gateways state their own.
const HBONEPort = 15008

// Pick chooses a number in [0, n); n is at least 1. Shells pass a uniformly random one, tests a scripted one.
type Pick func(n int) int

// Flow is a connection that an application asked for.
type Flow struct {
	Source      string         // UID of the connecting workload
	Client      netip.AddrPort // its address
	Destination netip.AddrPort // what it dialled
	// Avoid lists UIDs of workloads that were tried and could not be reached: Resolve chooses another endpoint, or
	// refuses with NoEndpoints if none is left.
	Avoid []string
}

// Kind is what is to be done with a connection. The zero value refuses.
type Kind uint8

// The kinds of plan.
const (
	Refuse   Kind = iota // close the connection; Reason says why
	Hold                 // not decidable yet: wait for state, ask again, refuse in the end
	Direct               // plain TCP to Dial
	SameNode             // tunnel to a workload of this node: as HBONE, unless the kernel can carry it
	HBONE                // tunnel to the workload at Dial
	Waypoint             // tunnel to a waypoint at Dial
	Gateway              // tunnel within a tunnel through a network gateway at Dial (double HBONE)
)

// Plan says where a connection goes. Strings and slices belong to the snapshot; do not modify them.
type Plan struct {
	Kind   Kind
	Reason Reason

	// Dial is the TCP address to connect to. Invalid IP with a HostName: resolve that name first.
	Dial     netip.AddrPort
	HostName string
	// Target is the application's address behind a tunnel to a workload (the port is not Dial's), or Dial for Direct.
	// The zero value for waypoints and gateways, which choose themselves.
	Target netip.AddrPort
	// Authority is the :authority of the CONNECT request; empty for Direct. For Gateway, of both requests.
	Authority string
	// Identities lists the acceptable identities of the peer at Dial: any one of them. Never empty for a tunnel.
	Identities []spiffe.ID
	// InnerIdentities is the same for the inner tunnel of Gateway.
	InnerIdentities []spiffe.ID

	Source      *state.Workload // who connects; nil if unknown
	Destination *state.Workload // the next hop: endpoint, waypoint or gateway; nil for an unknown destination
	Endpoint    *state.Workload // for Gateway: the endpoint in the other network for which it was chosen; else nil
	Service     *state.Service  // what the application addressed; nil if not a service
	Version     uint64          // of the snapshot it was made from
}

// At completes a plan whose HostName resolved to ip.
func (p Plan) At(ip netip.Addr) Plan {
	p.HostName = ""
	p.Dial = netip.AddrPortFrom(ip, p.Dial.Port())
	if p.Target.Port() == 0 {
		return p
	}
	p.Target = netip.AddrPortFrom(ip, p.Target.Port())
	if p.Tunnelled() {
		p.Authority = p.Target.String()
	}
	return p
}

// Tried lists what to add to Flow.Avoid when Dial could not be reached.
func (p Plan) Tried() []string {
	var uids []string
	for _, w := range []*state.Workload{p.Destination, p.Endpoint} {
		if w != nil {
			uids = append(uids, w.UID)
		}
	}
	return uids
}

// Tunnelled reports whether the connection is carried by HBONE.
func (p Plan) Tunnelled() bool {
	switch p.Kind {
	case SameNode, HBONE, Waypoint, Gateway:
		return true
	default:
		return false
	}
}
