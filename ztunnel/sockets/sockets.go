// Package sockets answers: what does it take to listen and to dial *as pod P*? Everything that the ztunnel opens in a pod's
// network namespace comes from here, as sockets that the node agent made, tagged and passed over (agent/api); the ztunnel
// itself could not make them, because it has no privilege. The package knows no policy, no route and no HBONE.
//
// [Client] is the real one: it keeps the connection to the agent, the pods' listeners while the agent is away, and a stock of
// ready-made sockets for each pod. socketstest has one on the loopback interface for tests. inpod receives the pods and their
// listeners ([Handler]); inbound, outbound and dns dial ([Dialer]).
//
// Everything is safe for concurrent use. Handler methods are called one at a time, by the goroutine that reads the agent.
package sockets

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"time"
)

// Pod is a pod on this node as the agent knows it. It is never changed after it was handed out.
type Pod struct {
	UID            string // Kubernetes' metadata.uid
	Name           string
	Namespace      string
	ServiceAccount string
	Addresses      []netip.Addr // never IPv4-mapped
	NetnsCookie    uint64       // the kernel's number of its network namespace
	DNS            bool         // its DNS queries are captured
	BypassInbound  bool         // what arrives for it is not captured
	Nameservers    []netip.Addr // in the order of its resolv.conf, empty where that is unknown
}

// LogValue makes a pod one short word in a log line.
func (p *Pod) LogValue() slog.Value { return slog.StringValue(p.Namespace + "/" + p.Name) }

// Has tells whether addr is an address of the pod.
func (p *Pod) Has(addr netip.Addr) bool { return slices.Contains(p.Addresses, addr) }

// families tells which address families the pod has; a pod whose addresses are unknown may have both.
func (p *Pod) families() (v4, v6 bool) {
	if len(p.Addresses) == 0 {
		return true, true
	}
	for _, a := range p.Addresses {
		v4, v6 = v4 || a.Is4(), v6 || a.Is6()
	}
	return v4, v6
}

// Accepted is a TCP connection that a pod's listener accepted. Addresses are never IPv4-mapped.
type Accepted struct {
	Conn   *net.TCPConn
	Client netip.AddrPort // who connected
	Dest   netip.AddrPort // where to: the original destination on captured connections
	Port   uint16         // the listener's own; a captured Dest may have it too, but not together with the pod's address
}

// Listener accepts connections in a pod. Close ends a waiting Accept with net.ErrClosed.
type Listener interface {
	Accept() (Accepted, error)
	Close() error
}

// Listeners are a pod's listening sockets. What the agent did not pass is nil.
type Listeners struct {
	Outbound Listener     // 15001: what the pod's applications connect to
	Inbound  Listener     // 15006: plaintext that arrives for the pod
	HBONE    Listener     // 15008: tunnels that arrive for the pod
	DNSTCP   net.Listener // 15053; LocalAddr of what it accepts is the nameserver that was asked
	DNSUDP   *net.UDPConn // 15053
}

// Close closes all of them.
func (l Listeners) Close() {
	for _, tcp := range []Listener{l.Outbound, l.Inbound, l.HBONE} {
		if tcp != nil {
			tcp.Close()
		}
	}
	if l.DNSTCP != nil {
		l.DNSTCP.Close()
	}
	if l.DNSUDP != nil {
		l.DNSUDP.Close()
	}
}

// Dialer opens connections from inside a pod. Errors are of type *Error. Without a deadline in ctx a TCP connect takes at
// most ConnectTimeout.
type Dialer interface {
	// DialTCP connects from pod uid to dst. A valid present is the address that the accepting application sees as its client
	// (no address is taken for it); the zero value leaves the choice to the kernel.
	DialTCP(ctx context.Context, uid string, dst, present netip.AddrPort) (*net.TCPConn, error)
	// DialUDP makes a socket in pod uid that sends to and receives from dst only.
	DialUDP(ctx context.Context, uid string, dst netip.AddrPort) (*net.UDPConn, error)
}

// Reason says why a pod is taken away.
type Reason uint8

const (
	// Gone: the pod does not exist any more; its connections end at once. The zero value, because it is the safe one.
	Gone Reason = iota
	// Left: the pod left the mesh; nothing more is accepted, live connections finish.
	Left
)

func (r Reason) String() string {
	if r == Left {
		return "left"
	}
	return "gone"
}

// Handler is told of the node's pods. Its methods must return soon: the agent waits for them.
type Handler interface {
	// Add brings a pod and its listeners, which the handler owns from then on, also beside an error. For a known uid it
	// replaces what was said before. An error is reported to the agent.
	Add(pod *Pod, l Listeners) error
	// Remove takes a pod away. The sockets of a pod that left can be dialed until Client.Release.
	Remove(uid string, reason Reason)
	// Synced says that every pod that the agent has was named.
	Synced()
	// Drain says that a newer ztunnel serves: stop accepting, finish by the deadline (zero: none).
	Drain(deadline time.Time)
}
