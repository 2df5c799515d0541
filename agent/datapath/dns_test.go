package datapath

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// resolver is the UDP part of a pod's mesh: it sends each query on, as a ztunnel does, by connecting a tagged socket to the client,
// and passes the answer back. It notes to which nameserver the kernel connected it.
type resolver struct {
	d    *Datapath
	pod  *pod
	wait sync.WaitGroup
	mu   sync.Mutex
	to   []netip.AddrPort // guarded by mu
	errs []error          // guarded by mu
}

func newResolver(d *Datapath, p *pod, ports int) *resolver {
	p.t.Helper()
	r := &resolver{d: d, pod: p}
	var open []net.PacketConn
	p.t.Cleanup(func() {
		for _, pc := range open {
			pc.Close()
		}
		r.wait.Wait()
	})
	for i := range ports {
		port := uint16(15053 + i)
		var pc net.PacketConn
		if err := p.ns.Do(func() (err error) {
			lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
				var tagErr error
				err := c.Control(func(fd uintptr) { tagErr = d.Tag(int(fd), RoleDNS) })
				return errors.Join(err, tagErr)
			}}
			pc, err = lc.ListenPacket(p.t.Context(), "udp", fmt.Sprintf("[::]:%d", port))
			return err
		}); err != nil {
			p.t.Fatal(err)
		}
		r.wait.Go(func() { r.serve(pc.(*net.UDPConn), port) })
		open = append(open, pc)
	}
	return r
}

func (r *resolver) serve(pc *net.UDPConn, port uint16) {
	buf := make([]byte, 512)
	for {
		n, client, err := pc.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		answer, meant, err := r.forward(client, port, buf[:n])
		r.mu.Lock()
		if err != nil {
			r.errs = append(r.errs, err)
		} else {
			r.to = append(r.to, meant)
		}
		r.mu.Unlock()
		if err == nil {
			pc.WriteToUDPAddrPort(answer, client)
		}
	}
}

func (r *resolver) forward(client netip.AddrPort, port uint16, query []byte) (answer []byte, meant netip.AddrPort, err error) {
	v6 := client.Addr().Is6() && !client.Addr().Is4In6()
	s, err := r.pod.trySocketNow(v6, unix.SOCK_DGRAM, 0)
	if err != nil {
		return nil, meant, err
	}
	defer unix.Close(s.fd)
	client = ap(client.Addr().Unmap(), client.Port())
	if err := r.d.Tag(s.fd, RoleOutgoing); err != nil {
		return nil, meant, err
	}
	if port != 15053 { // states at which port the query arrived
		if err := unix.Bind(s.fd, s.addr(ap(client.Addr(), port))); err != nil {
			return nil, meant, err
		}
	}
	if err := s.connect(client); err != nil {
		return nil, meant, fmt.Errorf("connect to the client: %w", err)
	}
	peer, err := unix.Getpeername(s.fd)
	if err != nil {
		return nil, meant, err
	}
	meant = addrPort(r.pod.t, peer)
	tv := unix.NsecToTimeval(int64(3 * time.Second))
	unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv)
	if _, err := unix.Write(s.fd, query); err != nil {
		return nil, meant, err
	}
	buf := make([]byte, 512)
	n, err := unix.Read(s.fd, buf)
	return buf[:max(n, 0)], meant, err
}

// trySocketNow is trySocket for goroutines that may outlive the test's own: the caller closes.
func (p *pod) trySocketNow(v6 bool, kind, proto int) (s sock, err error) {
	domain := unix.AF_INET
	if v6 {
		domain = unix.AF_INET6
	}
	s = sock{t: p.t, v6: v6}
	err = p.ns.Do(func() (err error) {
		s.fd, err = unix.Socket(domain, kind|unix.SOCK_CLOEXEC, proto)
		return err
	})
	return s, err
}

// take returns to whom the queries so far were sent, and forgets them.
func (r *resolver) take() []netip.AddrPort {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, err := range r.errs {
		r.pod.t.Errorf("resolver: %v", err)
	}
	to := r.to
	r.to, r.errs = nil, nil
	return to
}

// nameserver answers every query with its own address and the query.
func nameserver(p *pod, addr netip.Addr) netip.AddrPort {
	p.t.Helper()
	at := ap(addr, 53)
	var pc net.PacketConn
	if err := p.ns.Do(func() (err error) {
		pc, err = net.ListenPacket("udp", at.String())
		return err
	}); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { pc.Close() })
	go func() {
		buf := make([]byte, 512)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			pc.WriteTo(fmt.Appendf(nil, "%s %s", at, buf[:n]), from)
		}
	}()
	return at
}

func (p *pod) addAddr(prefix string) netip.Addr {
	p.t.Helper()
	eth := must[netlink.Link](p.t)(p.nl.LinkByName("eth0"))
	addAddr(p.t, p.nl, eth, prefix)
	a := netip.MustParsePrefix(prefix).Addr()
	eventually(p.t, "the pod has "+prefix, func() bool {
		routes, err := p.nl.RouteGet(a.AsSlice())
		return err == nil && len(routes) > 0 && routes[0].Type == unix.RTN_LOCAL
	})
	return a
}

func (s sock) sendTo(a netip.AddrPort, text string) {
	s.t.Helper()
	if err := unix.Sendto(s.fd, []byte(text), 0, s.addr(a)); err != nil {
		s.t.Fatal(err)
	}
}

func (s sock) receive() (string, netip.AddrPort) {
	s.t.Helper()
	tv := unix.NsecToTimeval(patience.Nanoseconds())
	unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv)
	buf := make([]byte, 512)
	n, from, err := unix.Recvfrom(s.fd, buf, 0)
	if err != nil {
		s.t.Fatalf("receive: %v", err)
	}
	return string(buf[:n]), addrPort(s.t, from)
}

// dnsRig adds a resolver and three nameservers of each family.
func dnsRig(t *testing.T, ports int) (*rig, *resolver, map[bool][]netip.AddrPort) {
	t.Helper()
	r := newRig(t, func(c *Config) { c.DNSPorts = uint32(ports) })
	servers := map[bool][]netip.AddrPort{}
	for i := range 5 {
		servers[false] = append(servers[false], nameserver(r.server, r.server.addAddr(fmt.Sprintf("10.77.0.%d/24", 200+i))))
		servers[true] = append(servers[true], nameserver(r.server, r.server.addAddr(fmt.Sprintf("fd77::2%d/64", i))))
	}
	return r, newResolver(r.d, r.client, ports), servers
}

func TestDNSOverUDP(t *testing.T) {
	r, res, servers := dnsRig(t, 1)
	for _, tc := range []struct {
		name      string
		v6        bool // socket
		ns        netip.AddrPort
		connected bool
	}{
		{"ipv4 unconnected", false, servers[false][0], false},
		{"ipv4 connected", false, servers[false][0], true},
		{"ipv6 unconnected", true, servers[true][0], false},
		{"ipv6 connected", true, servers[true][0], true},
		{"mapped unconnected", true, mapped(servers[false][0]), false},
		{"mapped connected", true, mapped(servers[false][0]), true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := r.client.socket(tc.v6, unix.SOCK_DGRAM, 0)
			for i := range 2 { // the second send() of a connected mapped socket is the delicate one
				text := fmt.Sprint("query", i)
				if tc.connected {
					if i == 0 {
						if err := s.connect(tc.ns); err != nil {
							t.Fatal(err)
						}
					}
					if _, err := unix.Write(s.fd, []byte(text)); err != nil {
						t.Fatal(err)
					}
					if got := s.peer(); got != tc.ns {
						t.Errorf("peer %s, want %s", got, tc.ns)
					}
				} else {
					s.sendTo(tc.ns, text)
				}
				plain := ap(tc.ns.Addr().Unmap(), 53)
				answer, from := s.receive()
				if from != tc.ns || answer != fmt.Sprintf("%s %s", plain, text) {
					t.Errorf("answer %q from %s, want %s", answer, from, tc.ns)
				}
				if to := res.take(); len(to) != 1 || to[0] != plain {
					t.Errorf("the resolver was connected to %s, want %s", to, plain)
				}
			}
		})
	}
}

// One unconnected socket asks several nameservers at once, as musl does. With a port for each, query and answer are told apart; with
// one port, each nameserver is asked once all the same.
func TestDNSSeveralNameservers(t *testing.T) {
	for _, ports := range []int{1, 4} {
		for _, f := range families {
			t.Run(fmt.Sprint(f.name, " ports ", ports), func(t *testing.T) {
				r, res, servers := dnsRig(t, ports)
				s := r.client.socket(f.v6, unix.SOCK_DGRAM, 0)
				all := servers[f.v6][:3]
				for round := range 2 {
					for _, ns := range all {
						s.sendTo(ns, "q")
					}
					answers, asked := map[string]bool{}, map[netip.AddrPort]bool{}
					for range all {
						answer, from := s.receive()
						answers[answer] = true
						if ports == 4 && answer != from.String()+" q" {
							t.Errorf("round %d: answer %q came as from %s", round, answer, from)
						}
					}
					for _, to := range res.take() {
						asked[to] = true
					}
					if len(answers) != 3 || len(asked) != 3 {
						t.Errorf("round %d: asked %v, answers %v", round, asked, answers)
					}
				}
				if ports == 4 { // more nameservers than are remembered: the oldest gives way
					for _, ns := range servers[f.v6] {
						s.sendTo(ns, "q")
						if answer, from := s.receive(); from != ns || answer != ns.String()+" q" {
							t.Errorf("answer %q from %s, want %s", answer, from, ns)
						}
					}
				}
			})
		}
	}
}

// A connected socket that was disconnected, or that sends elsewhere, must not mix up the two addresses.
func TestDNSConnectedThenNot(t *testing.T) {
	r, _, servers := dnsRig(t, 4)
	s := r.client.socket(false, unix.SOCK_DGRAM, 0)
	if err := s.connect(servers[false][0]); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Write(s.fd, []byte("a")); err != nil {
		t.Fatal(err)
	}
	if _, from := s.receive(); from != servers[false][0] {
		t.Errorf("answer from %s, want %s", from, servers[false][0])
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_CONNECT, uintptr(s.fd), unspec(), 16); errno != 0 {
		t.Fatal(errno)
	}
	s.sendTo(servers[false][1], "b")
	if answer, from := s.receive(); from != servers[false][1] || answer != servers[false][1].String()+" b" {
		t.Errorf("answer %q from %s, want %s", answer, from, servers[false][1])
	}
	// To something that is no nameserver: not captured, and its name is its own.
	if err := s.connect(ap(r.server.ip4, 9)); err != nil {
		t.Fatal(err)
	}
	if got := s.peer(); got != ap(r.server.ip4, 9) {
		t.Errorf("peer %s", got)
	}
}

func TestDNSLoopbackNameserverIsLeftAlone(t *testing.T) {
	r, res, _ := dnsRig(t, 1)
	local := nameserver(r.client, netip.MustParseAddr("127.0.0.53"))
	s := r.client.socket(false, unix.SOCK_DGRAM, 0)
	s.sendTo(local, "q")
	if answer, from := s.receive(); from != local || answer != local.String()+" q" {
		t.Errorf("answer %q from %s", answer, from)
	}
	if to := res.take(); len(to) != 0 {
		t.Errorf("the resolver saw %v", to)
	}
}

func TestDNSOverTCP(t *testing.T) {
	r := newRig(t)
	serve(r.server.listen("tcp", "[::]:53"))
	for _, f := range families {
		to := ap(r.server.addr(f.v6), 53)
		c := r.client.dial("tcp", to.String())
		line(t, c)
		if got := *r.mesh.last[RoleDNS].Load(); got != to.String() {
			t.Errorf("nameserver %s, want %s", got, to)
		}
		if got := c.RemoteAddr().String(); got != to.String() {
			t.Errorf("peer %s, want %s", got, to)
		}
	}
	if r.mesh.accepted[RoleDNS].Load() != 2 || r.mesh.accepted[RoleOutbound].Load() != 0 {
		t.Error("not accepted by the DNS listener")
	}
	pod := r.client.wanted()
	pod.DNS = false
	if _, err := r.d.Enroll(r.client.ns, pod); err != nil {
		t.Fatal(err)
	}
	line(t, r.client.dial("tcp", ap(r.server.ip4, 53).String()))
	if r.mesh.accepted[RoleOutbound].Load() != 1 {
		t.Error("without DNS capture, port 53 is a port like any other")
	}
}

// A resolver's socket that connects to a client which does not exist, or asked nobody, is refused.
func TestDNSForwardOfNobody(t *testing.T) {
	r, res, _ := dnsRig(t, 1)
	idle := r.client.socket(false, unix.SOCK_DGRAM, 0)
	if err := unix.Bind(idle.fd, idle.addr(ap(r.client.ip4, 5000))); err != nil {
		t.Fatal(err)
	}
	for _, port := range []uint16{5000, 5001} {
		if _, to, err := res.forward(ap(r.client.ip4, port), 15053, nil); !errors.Is(err, unix.EPERM) {
			t.Errorf("port %d: connected to %s, %v", port, to, err)
		}
	}
	if n := count(t, r.d, DNSForwardUnknown); n != 2 {
		t.Errorf("counted %d", n)
	}
}
