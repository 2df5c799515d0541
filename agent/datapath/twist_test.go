package datapath

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ambit-mesh/ambit/agent/datapath/plan"
	"github.com/ambit-mesh/ambit/test/need"
)

// rig is the usual beginning: a client's pod, enrolled, and a server's, which is not.
type rig struct {
	d              *Datapath
	client, server *pod
	mesh           *mesh
	to             netip.AddrPort // the server, IPv4
	to6            netip.AddrPort
}

func newRig(t *testing.T, change ...func(*Config)) *rig {
	t.Helper()
	n := newNode(t)
	cfg := testConfig(t)
	for _, c := range change {
		c(&cfg)
	}
	r := &rig{d: load(t, cfg), client: n.pod(), server: n.pod()}
	r.mesh = enrol(r.d, r.client)
	r.to, r.to6 = ap(r.server.ip4, 8080), ap(r.server.ip6, 8080)
	serve(r.server.listen("tcp", "[::]:8080"))
	return r
}

// captured runs f and reports how many connections the client's mesh accepted meanwhile.
func (r *rig) captured(f func()) int64 {
	before := r.mesh.accepted[RoleOutbound].Load()
	f()
	return r.mesh.accepted[RoleOutbound].Load() - before
}

func TestMappedSocket(t *testing.T) {
	r := newRig(t)
	s := r.client.socket(true, unix.SOCK_STREAM, 0)
	if err := s.connect(mapped(r.to)); err != nil {
		t.Fatal(err)
	}
	if got := s.peer(); got != mapped(r.to) {
		t.Errorf("peer %s, want %s", got, mapped(r.to))
	}
	if got := s.line(); !strings.HasPrefix(got, r.client.ip4.String()+":") {
		t.Errorf("the server sees %s, want %s", got, r.client.ip4)
	}
	if got := *r.mesh.last[RoleOutbound].Load(); got != r.to.String() {
		t.Errorf("original destination %s, want %s", got, r.to)
	}
}

func TestNonBlockingConnect(t *testing.T) {
	r := newRig(t)
	for _, to := range []netip.AddrPort{r.to, r.to6} {
		s := r.client.socket(to.Addr().Is6(), unix.SOCK_STREAM, 0)
		if n := r.captured(func() {
			if err := s.start(to); err != nil {
				t.Fatal(err)
			}
			if err := s.finish(); err != nil {
				t.Fatal(err)
			}
			s.line()
		}); n != 1 {
			t.Errorf("%s: %d captured", to, n)
		}
		if got := s.peer(); got != to {
			t.Errorf("peer %s, want %s", got, to)
		}
	}
}

func TestFastOpen(t *testing.T) {
	r := newRig(t)
	t.Run("deferred connect", func(t *testing.T) {
		s := r.client.socket(false, unix.SOCK_STREAM, 0)
		if err := unix.SetsockoptInt(s.fd, unix.SOL_TCP, unix.TCP_FASTOPEN_CONNECT, 1); err != nil {
			t.Fatal(err)
		}
		if n := r.captured(func() {
			if err := s.connect(r.to); err != nil {
				t.Fatal(err)
			}
			if _, err := unix.Write(s.fd, []byte("x")); err != nil {
				t.Fatal(err)
			}
			s.line()
		}); n != 1 {
			t.Errorf("%d captured", n)
		}
	})
	t.Run("data with sendto", func(t *testing.T) {
		s := r.client.socket(false, unix.SOCK_STREAM, 0)
		if n := r.captured(func() {
			if err := unix.Sendto(s.fd, []byte("x"), unix.MSG_FASTOPEN, s.addr(r.to)); err != nil {
				t.Fatal(err)
			}
			s.line()
		}); n != 1 {
			t.Errorf("%d captured", n)
		}
		if got := s.peer(); got != r.to {
			t.Errorf("peer %s, want %s", got, r.to)
		}
	})
	eventually(t, "all handshakes are forgotten", func() bool { return slots(t, r.d) == 0 })
}

func TestMultipathApplication(t *testing.T) {
	r := newRig(t)
	s, err := r.client.trySocket(false, unix.SOCK_STREAM, unix.IPPROTO_MPTCP)
	need.That(t, !errors.Is(err, unix.EPROTONOSUPPORT) && !errors.Is(err, unix.ENOPROTOOPT), need.MPTCP, fmt.Sprint(err))
	if err != nil {
		t.Fatal(err)
	}
	if n := r.captured(func() {
		if err := s.connect(r.to); err != nil {
			t.Fatal(err)
		}
		s.line()
	}); n != 1 {
		t.Errorf("%d captured", n)
	}
	if got := *r.mesh.last[RoleOutbound].Load(); got != r.to.String() {
		t.Errorf("original destination %s, want %s", got, r.to)
	}
	unix.Close(s.fd)
	eventually(t, "its handshake is forgotten", func() bool { return slots(t, r.d) == 0 })
}

func TestLocalConnectionsPass(t *testing.T) {
	r := newRig(t)
	serve(r.client.listen("tcp", "[::]:9090"))
	linkLocal, zone := r.client.linkLocal()
	for _, to := range []netip.Addr{
		netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.9.9.9"), netip.IPv6Loopback(),
		netip.IPv4Unspecified(), netip.IPv6Unspecified(), r.client.ip4, r.client.ip6, linkLocal,
		netip.MustParseAddr("::ffff:127.0.0.1"), netip.AddrFrom16(r.client.ip4.As16()),
	} {
		t.Run(to.String(), func(t *testing.T) {
			if n := r.captured(func() {
				s := r.client.socket(to.Is6(), unix.SOCK_STREAM, 0)
				sa := s.addr(ap(to, 9090))
				if sa6, ok := sa.(*unix.SockaddrInet6); ok && to == linkLocal {
					sa6.ZoneId = zone
				}
				if err := unix.Connect(s.fd, sa); err != nil {
					t.Fatal(err)
				}
				s.line()
			}); n != 0 {
				t.Errorf("%d captured", n)
			}
		})
	}
	if n := slots(t, r.d); n != 0 {
		t.Errorf("%d entries for connections that the mesh has nothing to do with", n)
	}
}

// linkLocal gives the pod a link-local address that can be used at once.
func (p *pod) linkLocal() (netip.Addr, uint32) {
	p.t.Helper()
	eth := must[netlink.Link](p.t)(p.nl.LinkByName("eth0"))
	addAddr(p.t, p.nl, eth, "fe80::99/64")
	return netip.MustParseAddr("fe80::99"), uint32(eth.Attrs().Index)
}

// A socket may connect more than once, and what was remembered of the first time must not colour the second.
func TestSocketConnectsAgain(t *testing.T) {
	r := newRig(t)
	serve(r.client.listen("tcp", "127.0.0.1:9090"))
	local := netip.MustParseAddrPort("127.0.0.1:9090")
	s := r.client.socket(false, unix.SOCK_STREAM, 0)
	disconnect := func() {
		t.Helper()
		// AF_UNSPEC, which package unix has no type for.
		if _, _, errno := unix.RawSyscall(unix.SYS_CONNECT, uintptr(s.fd), unspec(), 16); errno != 0 {
			t.Fatal(errno)
		}
	}
	for i, to := range []netip.AddrPort{r.to, local, r.to, r.to} {
		if n := r.captured(func() {
			if err := s.connect(to); err != nil {
				t.Fatal(err)
			}
			s.line()
		}); (n == 1) != (to != local) {
			t.Errorf("%d: %s captured %d times", i, to, n)
		}
		if got := s.peer(); got != to {
			t.Errorf("%d: peer %s, want %s", i, got, to)
		}
		disconnect()
	}
	unix.Close(s.fd)
	eventually(t, "all handshakes are forgotten", func() bool { return slots(t, r.d) == 0 })
}

// Without a listener nothing is handed to an application, even to one that listens at the very address that the connection was
// captured to: the kernel resets what sk_lookup drops.
func TestWithoutListenerConnectionsFail(t *testing.T) {
	r := newRig(t)
	for _, to := range []netip.AddrPort{r.to, r.to6} {
		trap := r.client.listen("tcp", ap(r.client.addr(to.Addr().Is6()), plan.SpreadPort(to)).String())
		serve(trap)
	}
	serve(r.client.listen("tcp", "[::]:9090"))
	r.mesh.stop()
	for _, to := range []netip.AddrPort{r.to, r.to6} {
		s := r.client.socket(to.Addr().Is6(), unix.SOCK_STREAM, 0)
		if err := s.connect(to); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("outbound to %s: %v, want %v", to, err, unix.ECONNREFUSED)
		}
		for _, port := range []uint16{9090, 15008, 1} {
			s := r.server.socket(to.Addr().Is6(), unix.SOCK_STREAM, 0)
			if err := s.connect(ap(r.client.addr(to.Addr().Is6()), port)); !errors.Is(err, unix.ECONNREFUSED) {
				t.Errorf("inbound to %d: %v, want %v", port, err, unix.ECONNREFUSED)
			}
		}
	}
	if n := count(t, r.d, LookupDropped); n != 8 {
		t.Errorf("counted %d", n)
	}
	if n := slots(t, r.d); n != 0 {
		t.Errorf("%d entries of failed connections whose sockets are still open", n)
	}
}

// While the listener is there but nobody accepts, connections wait in its backlog; a second holder of the listener is enough.
func TestListenerOutlivesItsProcess(t *testing.T) {
	r := newRig(t)
	ln := r.mesh.lns[0].(*net.TCPListener)
	for i, l := range r.mesh.lns {
		if r.mesh.roles[i] == RoleOutbound {
			ln = l.(*net.TCPListener)
		}
	}
	held := must[*os.File](t)(ln.File()) // the agent's
	defer held.Close()
	r.mesh.stop() // the ztunnel dies
	s := r.client.socket(false, unix.SOCK_STREAM, 0)
	if err := s.connect(r.to); err != nil {
		t.Fatalf("connect while nobody accepts: %v", err)
	}
	again := must[net.Listener](t)(net.FileListener(held)) // a new ztunnel gets it
	r.mesh.adopt(RoleOutbound, again)
	if got := s.line(); !strings.HasPrefix(got, r.client.ip4.String()+":") {
		t.Errorf("the server sees %s", got)
	}
}

// blackhole makes every handshake of the pod with itself wait for an answer, until undone.
func (p *pod) blackhole() (undo func()) {
	p.t.Helper()
	lo := must[netlink.Link](p.t)(p.nl.LinkByName("lo"))
	if err := p.nl.LinkSetDown(lo); err != nil {
		p.t.Fatal(err)
	}
	return func() { up(p.t, p.nl, "lo") }
}

func TestFamilyThatThePodDoesNotHave(t *testing.T) {
	r := newRig(t)
	pod := r.client.wanted()
	pod.IPv6 = netip.Addr{}
	if _, err := r.d.Enroll(r.client.ns, pod); err != nil {
		t.Fatal(err)
	}
	want := error(unix.EPERM)
	if r.d.Features().SetRetval {
		want = unix.ENETUNREACH
	}
	s := r.client.socket(true, unix.SOCK_STREAM, 0)
	if err := s.connect(r.to6); !errors.Is(err, want) {
		t.Errorf("connect: %v, want %v", err, want)
	}
	if n := count(t, r.d, ConnectDeniedFamily); n != 1 {
		t.Errorf("counted %d", n)
	}
	r.client.dial("tcp", r.to.String())
}

// The mesh's ports are no way in from inside the pod.
func TestPodCannotReachTheMeshDirectly(t *testing.T) {
	r := newRig(t)
	for _, to := range []string{"127.0.0.1:15001", "[::1]:15006", r.client.ip4.String() + ":15001", r.client.ip4.String() + ":15006", r.client.ip4.String() + ":15053", "127.0.0.1:15008"} {
		s := r.client.socket(strings.HasPrefix(to, "["), unix.SOCK_STREAM, 0)
		if err := s.connect(netip.MustParseAddrPort(to)); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("%s: %v, want %v", to, err, unix.ECONNREFUSED)
		}
	}
	// The pod tunnels to itself, though.
	if _, err := dialIn(t, r.client.ns, "tcp", r.client.ip4.String()+":15008", patience); err != nil {
		t.Error(err)
	}
}

// What the outbound listener accepts without an original destination is marked by an address of zeros.
func TestAcceptedWithoutDestinationIsMarked(t *testing.T) {
	n := newNode(t)
	d := load(t, testConfig(t))
	p := n.pod()
	m := newMesh(d, p) // not enrolled: nothing keeps the pod from connecting
	for i, to := range []netip.Addr{p.ip4, p.ip6} {
		c, err := dialIn(t, p.ns, "tcp", ap(to, 15001).String(), patience)
		if err == nil {
			_, err = readLine(c)
		}
		if !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("connect or read: %v, want a reset", err)
		}
		eventually(t, "accepted", func() bool { return m.accepted[RoleOutbound].Load() == int64(i+1) })
		if got := netip.MustParseAddrPort(*m.last[RoleOutbound].Load()); !got.Addr().IsUnspecified() || got.Port() != 0 {
			t.Errorf("accepted with destination %s", got)
		}
	}
	if n := count(t, d, AddressMissing); n != 2 {
		t.Errorf("counted %d", n)
	}
}

func TestApplicationsMayNotBindTheMeshsPorts(t *testing.T) {
	n := newNode(t)
	d := load(t, testConfig(t))
	p := n.pod()
	if _, err := d.Enroll(p.ns, p.wanted()); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []int{unix.SOCK_STREAM, unix.SOCK_DGRAM} {
		for _, v6 := range []bool{false, true} {
			for _, port := range []uint16{15001, 15006, 15008, 15053, 15056} {
				s := p.socket(v6, kind, 0)
				if err := unix.Bind(s.fd, s.addr(ap(p.addr(v6), port))); !errors.Is(err, unix.EPERM) {
					t.Errorf("bind %d (kind %d, v6 %v): %v, want %v", port, kind, v6, err, unix.EPERM)
				}
			}
			for _, port := range []uint16{0, 15002, 15057} {
				s := p.socket(v6, kind, 0)
				if err := unix.Bind(s.fd, s.addr(ap(p.addr(v6), port))); err != nil {
					t.Errorf("bind %d: %v", port, err)
				}
			}
		}
	}
	if n := count(t, d, BindDeniedPort); n != 20 {
		t.Errorf("counted %d", n)
	}
}

// bind() on a socket of the mesh binds nothing: neither an address that the pod does not have, nor a port.
func TestPresentedAddress(t *testing.T) {
	r := newRig(t)
	serve(r.client.listen("tcp", "[::]:9090"))
	for _, tc := range []struct {
		name        string
		v6          bool
		present, to netip.AddrPort
	}{
		{"ipv4", false, netip.MustParseAddrPort("203.0.113.7:4711"), ap(r.client.ip4, 9090)},
		{"ipv6", true, netip.MustParseAddrPort("[2001:db8::7]:80"), ap(r.client.ip6, 9090)},
		{"mapped", true, mapped(netip.MustParseAddrPort("203.0.113.7:4712")), mapped(ap(r.client.ip4, 9090))},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := r.client.socket(tc.v6, unix.SOCK_STREAM, 0)
			if err := r.d.Tag(s.fd, RoleOutgoing); err != nil {
				t.Fatal(err)
			}
			if err := unix.Bind(s.fd, s.addr(tc.present)); err != nil {
				t.Fatal(err)
			}
			if port := s.name().Port(); port != 0 {
				t.Errorf("bind took port %d", port)
			}
			if err := s.connect(tc.to); err != nil {
				t.Fatal(err)
			}
			want := ap(tc.present.Addr().Unmap(), tc.present.Port())
			if got := netip.MustParseAddrPort(s.line()); ap(got.Addr().Unmap(), got.Port()) != want {
				t.Errorf("the application sees %s, want %s", got, want)
			}
		})
	}
}

// A full map refuses, and says so; what is refused or given up leaves nothing behind.
func TestFullMapDenies(t *testing.T) {
	r := newRig(t, func(c *Config) { c.MaxHandshakes = 4 })
	undo := r.client.blackhole() // so that handshakes stay
	var waiting []sock
	for range 4 {
		s := r.client.socket(false, unix.SOCK_STREAM, 0)
		if err := s.start(r.to); err != nil {
			t.Fatal(err)
		}
		waiting = append(waiting, s)
	}
	one := r.client.socket(false, unix.SOCK_STREAM, 0)
	if err := one.connect(r.to); !errors.Is(err, unix.EPERM) {
		t.Fatalf("connect: %v, want %v", err, unix.EPERM)
	}
	out := r.client.socket(false, unix.SOCK_STREAM, 0)
	if err := r.d.Tag(out.fd, RoleOutgoing); err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(out.fd, out.addr(r.to)); !errors.Is(err, unix.EPERM) {
		t.Errorf("bind: %v, want %v", err, unix.EPERM)
	}
	if c, b := count(t, r.d, ConnectDeniedFull), count(t, r.d, BindDeniedFull); c != 1 || b != 1 {
		t.Errorf("counted %d connects, %d binds", c, b)
	}
	for _, s := range waiting {
		unix.Close(s.fd)
	}
	if n := slots(t, r.d); n != 0 {
		t.Errorf("%d entries after all were closed", n)
	}
	undo()
	if err := one.connect(r.to); err != nil {
		t.Errorf("after the others: %v", err)
	}
}

// Ways for a connect to fail, each without a close: port space exhausted before the SYN, and the SYN never answered.
func TestFailedConnectsFreeTheirSlots(t *testing.T) {
	r := newRig(t)
	t.Run("no port", func(t *testing.T) {
		writeSysctl(t, r.client, "net/ipv4/ip_local_port_range", "40000 40000")
		defer writeSysctl(t, r.client, "net/ipv4/ip_local_port_range", "32768 60999")
		r.client.dial("tcp", r.to.String())
		s := r.client.socket(false, unix.SOCK_STREAM, 0)
		if err := s.connect(r.to); !errors.Is(err, unix.EADDRNOTAVAIL) {
			t.Fatalf("connect: %v, want %v", err, unix.EADDRNOTAVAIL)
		}
		unix.Close(s.fd)
		eventually(t, "its slot is free", func() bool { return slots(t, r.d) == 0 })
	})
	t.Run("no answer", func(t *testing.T) {
		defer r.client.blackhole()()
		s := r.client.socket(false, unix.SOCK_STREAM, 0)
		if err := unix.SetsockoptInt(s.fd, unix.SOL_TCP, unix.TCP_USER_TIMEOUT, 100); err != nil {
			t.Fatal(err)
		}
		if err := s.connect(r.to); !errors.Is(err, unix.ETIMEDOUT) {
			t.Fatalf("connect: %v, want %v", err, unix.ETIMEDOUT)
		}
		if n := slots(t, r.d); n != 0 {
			t.Errorf("%d entries although the socket is still open", n)
		}
	})
}

func writeSysctl(t testing.TB, p *pod, name, value string) {
	t.Helper()
	if err := p.ns.Do(func() error { return os.WriteFile("/proc/sys/"+name, []byte(value), 0) }); err != nil {
		t.Fatal(err)
	}
}

// Every way that a handshake can be forgotten by its socket is covered by age.
func TestSweep(t *testing.T) {
	r := newRig(t)
	r.client.blackhole()
	s := r.client.socket(false, unix.SOCK_STREAM, 0)
	if err := s.start(r.to); err != nil {
		t.Fatal(err)
	}
	if n := must[int](t)(r.d.Sweep()); n != 0 {
		t.Errorf("a fresh handshake was swept")
	}
	if open, most := r.d.Handshakes(); open != 1 || most != 32768 {
		t.Errorf("%d of %d handshakes", open, most)
	}
	if n := must[int](t)(r.d.sweep(0, 0)); n != 1 {
		t.Errorf("swept %d, want 1", n)
	}
	if n := slots(t, r.d); n != 0 {
		t.Errorf("%d entries after the sweep", n)
	}
	if n := count(t, r.d, SlotSwept); n != 1 {
		t.Errorf("counted %d", n)
	}
}

// 200 source ports, three destinations, more connections than that: each destination has the whole port space, as without a mesh.
func TestFewSourcePorts(t *testing.T) {
	r := newRig(t)
	writeSysctl(t, r.client, "net/ipv4/ip_local_port_range", "40000 40199")
	var to []string
	for port := 8081; port < 8084; port++ {
		serve(r.server.listen("tcp", fmt.Sprintf("[::]:%d", port)))
		to = append(to, ap(r.server.ip4, uint16(port)).String())
	}
	// All open at once: 150 to each destination, 450 from 200 ports. The mesh's own connections need ports too, and get
	// them by the same rule.
	var conns sync.Map
	var all sync.WaitGroup
	for i := range 450 {
		all.Go(func() {
			c, err := dialIn(t, r.client.ns, "tcp", to[i%3], patience)
			if err != nil {
				t.Errorf("connection %d: %v", i, err)
				return
			}
			conns.Store(i, c)
		})
	}
	all.Wait()
	conns.Range(func(i, c any) bool {
		if got := c.(net.Conn).RemoteAddr().String(); got != to[i.(int)%3] {
			t.Errorf("connection %d has peer %s", i, got)
		}
		return true
	})
	eventually(t, "all handshakes are forgotten", func() bool { return slots(t, r.d) == 0 })
}
