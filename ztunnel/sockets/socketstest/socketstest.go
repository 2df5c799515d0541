// Package socketstest is a cluster's network on the loopback interface, for tests of the ztunnel without an agent, a kernel
// program or a privilege: pods are addresses in 127/8, and what the kernel's capture does (connections of an enrolled pod
// reach its 15001 listener, connections to it its 15006 listener, and getsockname tells the original destination) is done by
// a table. TCP itself is real: resets, half-closes and full buffers are the kernel's.
//
// A [Network] and its nodes may be used by any goroutine.
package socketstest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ambit-mesh/ambit/ztunnel/sockets"
)

// hbonePort is where tunnels arrive.
const hbonePort = 15008

// Network joins nodes, pods and addresses outside the mesh.
type Network struct {
	t testing.TB

	mu    sync.Mutex
	known sync.Cond // dests has changed
	pods  map[netip.Addr]*Pod
	dests map[netip.AddrPort]netip.AddrPort // client of a captured connection -> where it wanted to go
	fail  map[netip.AddrPort]error          // dials of ztunnels to be refused
	dials map[netip.AddrPort]int            // of ztunnels, by destination
}

// New makes an empty network that ends with the test.
func New(t testing.TB) *Network {
	n := &Network{
		t: t, pods: map[netip.Addr]*Pod{}, dests: map[netip.AddrPort]netip.AddrPort{},
		fail: map[netip.AddrPort]error{}, dials: map[netip.AddrPort]int{},
	}
	n.known.L = &n.mu
	return n
}

// lastAddr spreads the addresses of the process over its own part of 127/8.
var lastAddr atomic.Uint32

// Addr gives an address that nobody else in this process has.
func (n *Network) Addr() netip.Addr {
	i := lastAddr.Add(1)
	return netip.AddrFrom4([4]byte{127, byte(1 + os.Getpid()%250), byte(i >> 8), byte(1 + i%250)})
}

// Pod is an enrolled pod.
type Pod struct {
	*sockets.Pod
	Listeners sockets.Listeners

	outbound, inbound, hbone netip.AddrPort // where the listeners really are
}

// AddPod makes a pod and its listeners, which the caller owns.
func (n *Network) AddPod(namespace, name, serviceAccount string) *Pod {
	n.t.Helper()
	addr := n.Addr()
	p := &Pod{Pod: &sockets.Pod{
		UID: "uid-" + namespace + "-" + name, Name: name, Namespace: namespace, ServiceAccount: serviceAccount,
		Addresses: []netip.Addr{addr}, NetnsCookie: uint64(lastAddr.Load()), DNS: true,
	}}
	listen := func(at *netip.AddrPort) sockets.Listener {
		l, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(netip.AddrPortFrom(addr, 0)))
		if err != nil {
			n.t.Fatal(err)
		}
		*at = l.Addr().(*net.TCPAddr).AddrPort()
		return &listener{TCPListener: l, network: n}
	}
	p.Listeners.Outbound = listen(&p.outbound)
	p.Listeners.Inbound = listen(&p.inbound)
	p.Listeners.HBONE = listen(&p.hbone)
	n.mu.Lock()
	n.pods[addr] = p
	n.mu.Unlock()
	return p
}

// Remove makes the pod's address nobody's.
func (n *Network) Remove(p *Pod) {
	n.mu.Lock()
	delete(n.pods, p.Addresses[0])
	n.mu.Unlock()
}

// Fail makes ztunnels' dials to dst end with err; nil ends that.
func (n *Network) Fail(dst netip.AddrPort, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err == nil {
		delete(n.fail, dst)
		return
	}
	n.fail[dst] = err
}

// Dials counts the dials of ztunnels to dst.
func (n *Network) Dials(dst netip.AddrPort) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dials[dst]
}

// Connect is an application of pod p that connects to dst: the pod's 15001 listener gets it.
func (n *Network) Connect(ctx context.Context, p *Pod, dst netip.AddrPort) (*net.TCPConn, error) {
	return n.captured(ctx, p.Addresses[0], p.outbound, dst)
}

// Uncaptured is a connection that some process makes to the pod's 15001 itself.
func (n *Network) Uncaptured(ctx context.Context, p *Pod) (*net.TCPConn, error) {
	return n.captured(ctx, p.Addresses[0], p.outbound, p.outbound)
}

// ConnectFrom is a client outside the mesh that connects to dst.
func (n *Network) ConnectFrom(ctx context.Context, client netip.Addr, dst netip.AddrPort) (*net.TCPConn, error) {
	if at, ok := n.arrival(dst); ok {
		return n.captured(ctx, client, at, dst)
	}
	return dial(ctx, client, dst)
}

// arrival answers which listener of an enrolled pod gets a connection to dst.
func (n *Network) arrival(dst netip.AddrPort) (netip.AddrPort, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.pods[dst.Addr()]
	switch {
	case p == nil:
		return netip.AddrPort{}, false
	case dst.Port() == hbonePort:
		return p.hbone, true
	}
	return p.inbound, true
}

// captured connects to the listener at, which is told that the client wanted dst.
func (n *Network) captured(ctx context.Context, client netip.Addr, at, dst netip.AddrPort) (*net.TCPConn, error) {
	c, err := dial(ctx, client, at)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	n.dests[c.LocalAddr().(*net.TCPAddr).AddrPort()] = dst
	n.mu.Unlock()
	n.known.Broadcast()
	return c, nil
}

// dial connects from client to dst.
func dial(ctx context.Context, client netip.Addr, dst netip.AddrPort) (*net.TCPConn, error) {
	d := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		controlErr := raw.Control(func(fd uintptr) {
			// The port is chosen by connect: bind would look for one that nobody uses for anything.
			err = errors.Join(unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1),
				unix.Bind(int(fd), &unix.SockaddrInet4{Addr: client.As4()}))
		})
		return errors.Join(controlErr, err)
	}}
	d.SetMultipathTCP(false)
	c, err := d.DialContext(ctx, "tcp4", dst.String())
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// listener tells the original destination of what it accepts.
type listener struct {
	*net.TCPListener
	network *Network
}

// Accept implements sockets.Listener.
func (l *listener) Accept() (sockets.Accepted, error) {
	c, err := l.AcceptTCP()
	if err != nil {
		return sockets.Accepted{}, err
	}
	a := sockets.Accepted{Conn: c, Client: c.RemoteAddr().(*net.TCPAddr).AddrPort(), Dest: c.LocalAddr().(*net.TCPAddr).AddrPort()}
	a.Port = a.Dest.Port()
	a.Dest = l.network.meant(a.Client)
	return a, nil
}

// meant waits until the other end has said where it wanted to go: it learns its own port only when it is connected.
func (n *Network) meant(client netip.AddrPort) netip.AddrPort {
	n.mu.Lock()
	defer n.mu.Unlock()
	for {
		if dst, ok := n.dests[client]; ok {
			delete(n.dests, client)
			return dst
		}
		n.known.Wait()
	}
}

// Dialer dials as the pods of the network do; it implements sockets.Dialer.
func (n *Network) Dialer() sockets.Dialer { return dialer{n} }

type dialer struct{ n *Network }

func (d dialer) pod(uid string) *Pod {
	d.n.mu.Lock()
	defer d.n.mu.Unlock()
	for _, p := range d.n.pods {
		if p.UID == uid {
			return p
		}
	}
	return nil
}

// DialTCP implements sockets.Dialer. Of present only the address is used: the port may be taken, and no kernel program
// pretends here.
func (d dialer) DialTCP(ctx context.Context, uid string, dst, present netip.AddrPort) (*net.TCPConn, error) {
	p := d.pod(uid)
	if p == nil {
		return nil, &sockets.Error{Op: sockets.OpTake, Dst: dst, Err: sockets.ErrUnknownPod}
	}
	d.n.mu.Lock()
	err := d.n.fail[dst]
	d.n.dials[dst]++
	d.n.mu.Unlock()
	if err != nil {
		return nil, &sockets.Error{Op: sockets.OpConnect, Dst: dst, Err: err}
	}
	from := p.Addresses[0]
	if present.IsValid() {
		from = present.Addr()
	}
	ctx, cancel := context.WithTimeout(ctx, sockets.ConnectTimeout)
	defer cancel()
	var c *net.TCPConn
	if at, ok := d.n.arrival(dst); ok && !p.Has(dst.Addr()) {
		c, err = d.n.captured(ctx, from, at, dst)
	} else {
		c, err = dial(ctx, from, dst)
	}
	if err != nil {
		return nil, &sockets.Error{Op: sockets.OpConnect, Dst: dst, Err: err}
	}
	return c, nil
}

// DialUDP implements sockets.Dialer. To the pod's own address it is EPERM: no kernel program knows here whom a client asked.
func (d dialer) DialUDP(_ context.Context, uid string, dst netip.AddrPort) (*net.UDPConn, error) {
	p := d.pod(uid)
	if p == nil {
		return nil, &sockets.Error{Op: sockets.OpTake, Dst: dst, Err: fmt.Errorf("pod %s: %w", uid, sockets.ErrUnknownPod)}
	}
	if p.Has(dst.Addr()) {
		return nil, &sockets.Error{Op: sockets.OpConnect, Dst: dst, Err: unix.EPERM}
	}
	return net.DialUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(p.Addresses[0], 0)), net.UDPAddrFromAddrPort(dst))
}
