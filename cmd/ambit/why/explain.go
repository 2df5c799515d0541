package why

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/ambit-mesh/ambit/controller/api/spiffe"
	"github.com/ambit-mesh/ambit/ztunnel/policy"
	"github.com/ambit-mesh/ambit/ztunnel/route"
	"github.com/ambit-mesh/ambit/ztunnel/state"
)

// Question is what a user asks.
type Question struct {
	// From is "namespace/name" of a pod or its UID; Outside asks for a client that is not in the mesh.
	From string
	// To is ip:port, host:port of a service, or namespace/name:port of a pod.
	To string
	// ClientIP is the address of a client outside the mesh.
	ClientIP netip.Addr
	// Choice chooses among endpoints: the n-th of what Resolve may choose from.
	Choice int
}

// Outside is the From of a client without identity.
const Outside = "none"

// Answer is the plan and the decision, in words.
type Answer struct {
	Source      string `json:"source"`
	Identity    string `json:"identity,omitempty"` // that the destination sees; empty for plain text
	Destination string `json:"destination"`
	Service     string `json:"service,omitempty"`
	// Plan is absent for a client outside the mesh: no ztunnel of ours routes it.
	Plan      string `json:"plan,omitempty"`
	Route     string `json:"routeReason,omitempty"`
	Dial      string `json:"dial,omitempty"`
	Authority string `json:"authority,omitempty"`
	Peer      string `json:"peer,omitempty"` // the workload that is dialled
	// Verdict is absent where nobody judges: outside the mesh, or refused before.
	Verdict  string   `json:"verdict,omitempty"`
	Reason   string   `json:"reason,omitempty"`
	Policy   string   `json:"policy,omitempty"`
	DryRun   []string `json:"dryRun,omitempty"`
	Notes    []string `json:"notes,omitempty"`
	Snapshot uint64   `json:"snapshot"`
}

// Explain asks route and policy what they would do. version is that of the snapshot when it was dumped.
func Explain(s *state.Snapshot, version uint64, q Question) (*Answer, error) {
	if q.From == Outside {
		return explainOutside(s, version, q)
	}
	src, err := findWorkload(s, q.From)
	if err != nil {
		return nil, fmt.Errorf("source: %w", err)
	}
	dst, err := destination(s, q.To, src.Namespace)
	if err != nil {
		return nil, fmt.Errorf("destination: %w", err)
	}
	client := netip.AddrPortFrom(clientAddr(src, dst.Addr()), 0)
	p := route.Resolve(s, route.Flow{Source: src.UID, Client: client, Destination: dst}, func(n int) int { return q.Choice % n })
	a := &Answer{
		Source: name(src), Destination: dst.String(), Plan: p.Kind.String(), Route: p.Reason.String(), Authority: p.Authority, Snapshot: version,
	}
	if p.Service != nil {
		a.Service = p.Service.Key().String()
	}
	if p.Destination != nil {
		a.Peer = name(p.Destination)
	}
	if p.Dial.IsValid() {
		a.Dial = p.Dial.String()
	} else if p.HostName != "" {
		a.Dial = net.JoinHostPort(p.HostName, strconv.Itoa(int(p.Dial.Port())))
	}
	judge(s, a, p, src, client)
	return a, nil
}

// judge asks policy for the hop that the plan dials.
func judge(s *state.Snapshot, a *Answer, p route.Plan, src *state.Workload, client netip.AddrPort) {
	switch {
	case p.Kind == route.Refuse || p.Kind == route.Hold:
		a.Notes = append(a.Notes, "the source's ztunnel does not connect, so nobody else is asked")
		return
	case p.Destination == nil:
		a.Notes = append(a.Notes, "the destination is outside the mesh: no policy applies")
		return
	case p.Kind == route.Gateway:
		a.Notes = append(a.Notes, "judged in the other network, which this dump does not know")
		return
	case p.Kind == route.Direct && p.Destination.Tunnel == state.TunnelNone:
		a.Notes = append(a.Notes, "the destination is not captured, so its policies are enforced by nobody")
	case p.Kind == route.Waypoint:
		a.Notes = append(a.Notes, "judged here at the waypoint; its own rules come next, and the destination then sees the waypoint's identity")
	}
	conn := policy.Conn{Workload: p.Destination.UID, Source: client, Destination: p.Dial}
	if p.Tunnelled() {
		conn.Peer = src.Identity()
		if target, err := netip.ParseAddrPort(p.Authority); err == nil {
			conn.Destination = target
		}
	}
	decide(s, a, conn)
}

func decide(s *state.Snapshot, a *Answer, conn policy.Conn) {
	d := policy.Authorize(s, conn)
	if conn.Peer != (spiffe.ID{}) {
		a.Identity = conn.Peer.String()
	}
	a.Verdict, a.Reason, a.Policy = d.Verdict.String(), d.Reason.String(), d.Policy.String()
	for _, f := range d.DryRun {
		a.DryRun = append(a.DryRun, strings.TrimSpace(f.Verdict.String()+" "+f.Policy.String()))
	}
	if d.Reason.Pending() {
		a.Notes = append(a.Notes, "a new connection waits up to 5 s for this to change before it is denied")
	}
}

// explainOutside is a plaintext connection from somebody without identity to a pod.
func explainOutside(s *state.Snapshot, version uint64, q Question) (*Answer, error) {
	dst, err := destination(s, q.To, "")
	if err != nil {
		return nil, fmt.Errorf("destination: %w", err)
	}
	w := s.WorkloadAt(state.NetworkAddr{Network: s.Network(), IP: dst.Addr()})
	if w == nil {
		return nil, fmt.Errorf("destination: no workload has the address %s (a client outside the mesh is judged at the pod it reaches)", dst.Addr())
	}
	a := &Answer{Source: "outside the mesh", Destination: dst.String(), Peer: name(w), Snapshot: version}
	decide(s, a, policy.Conn{Workload: w.UID, Source: netip.AddrPortFrom(q.ClientIP, 0), Destination: dst})
	return a, nil
}

// findWorkload finds a workload by UID, or by namespace/name if that is one only.
func findWorkload(s *state.Snapshot, want string) (*state.Workload, error) {
	if w := s.Workload(want); w != nil {
		return w, nil
	}
	var found []*state.Workload
	for w := range s.Workloads() {
		if name(w) == want {
			found = append(found, w)
		}
	}
	switch len(found) {
	case 0:
		return nil, fmt.Errorf("no workload %q in the dump: want namespace/name or a uid", want)
	case 1:
		return found[0], nil
	}
	var uids []string
	for _, w := range found {
		uids = append(uids, w.UID)
	}
	slices.Sort(uids)
	return nil, fmt.Errorf("%d workloads are called %s: name one by its uid: %s", len(found), want, strings.Join(uids, ", "))
}

// destination reads what the application would dial.
func destination(s *state.Snapshot, to, namespace string) (netip.AddrPort, error) {
	if at, err := netip.ParseAddrPort(to); err == nil {
		return at, nil
	}
	host, portText, err := net.SplitHostPort(to)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%q: want ip:port, host:port or namespace/name:port", to)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil || port == 0 {
		return netip.AddrPort{}, fmt.Errorf("port %q", portText)
	}
	if strings.Contains(host, "/") {
		w, err := findWorkload(s, host)
		if err != nil {
			return netip.AddrPort{}, err
		}
		if len(w.Addresses) == 0 {
			return netip.AddrPort{}, fmt.Errorf("workload %s has no address", host)
		}
		return netip.AddrPortFrom(w.Addresses[0], uint16(port)), nil
	}
	ip, err := serviceAddr(s, host, namespace)
	return netip.AddrPortFrom(ip, uint16(port)), err
}

// serviceAddr is the virtual address that a pod of the namespace gets for a name, with Kubernetes' search domains.
func serviceAddr(s *state.Snapshot, host, namespace string) (netip.Addr, error) {
	const domain = ".svc.cluster.local"
	for _, fqdn := range []string{host, host + "." + namespace + domain, host + domain, host + ".cluster.local"} {
		svc := s.ServiceNamed(fqdn, namespace)
		if svc == nil {
			continue
		}
		for _, vip := range svc.VIPs {
			if vip.Network == s.Network() {
				return vip.IP, nil
			}
		}
		for _, w := range s.Endpoints(svc.Key()).All() { // headless: DNS answers with the endpoints
			if len(w.Addresses) > 0 {
				return w.Addresses[0], nil
			}
		}
		return netip.Addr{}, fmt.Errorf("service %s has no address and no endpoint", svc.Key())
	}
	return netip.Addr{}, fmt.Errorf("no service %q in the dump that namespace %q may see", host, namespace)
}

// clientAddr is the address that a pod uses towards dst: of the same family if it has one.
func clientAddr(w *state.Workload, dst netip.Addr) netip.Addr {
	for _, a := range w.Addresses {
		if a.Is4() == dst.Unmap().Is4() {
			return a
		}
	}
	if len(w.Addresses) > 0 {
		return w.Addresses[0]
	}
	return netip.Addr{}
}

func name(w *state.Workload) string { return w.Namespace + "/" + w.Name }
