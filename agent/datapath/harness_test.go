package datapath

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	vnetns "github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/ambit-mesh/ambit/agent/netns"
	"github.com/ambit-mesh/ambit/test/need"
)

// The tests build one node: a namespace with a bridge, and pods joined to it. Nothing outside the process is needed, so the test
// binary also runs alone in a virtual machine.

// bpffs mounts a file system for pins and lets go of it at once, so that only a descriptor of this process keeps it: whatever
// becomes of the test, nothing stays attached.
func bpffs(t testing.TB) string {
	t.Helper()
	need.Root(t, "mounts a bpffs and loads kernel programs")
	dir := t.TempDir()
	if err := unix.Mount("bpf", dir, "bpf", 0, ""); err != nil {
		t.Fatalf("mount bpffs: %v", err)
	}
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err := errors.Join(err, unix.Unmount(dir, unix.MNT_DETACH)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), fd)
}

func testConfig(t testing.TB) Config {
	return Config{
		PinDir: filepath.Join(bpffs(t), "agent"),
		Log:    slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
}

func load(t testing.TB, cfg Config) *Datapath {
	t.Helper()
	d, err := Load(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func must[T any](t testing.TB) func(T, error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// node is the host's namespace: a bridge that has the first address of each family.
type node struct {
	t     testing.TB
	ns    *netns.Handle
	nl    *netlink.Handle
	next  int
	addr4 netip.Addr
	addr6 netip.Addr
}

// pod is a namespace with one device.
type pod struct {
	t    testing.TB
	ns   *netns.Handle
	nl   *netlink.Handle
	node *node
	ip4  netip.Addr
	ip6  netip.Addr
}

func newNamespace(t testing.TB) (*netns.Handle, *netlink.Handle) {
	t.Helper()
	ns := must[*netns.Handle](t)(netns.New())
	t.Cleanup(func() { ns.Close() })
	nl := must[*netlink.Handle](t)(netlink.NewHandleAt(vnetns.NsHandle(ns.Fd()), unix.NETLINK_ROUTE))
	t.Cleanup(nl.Close)
	up(t, nl, "lo")
	return ns, nl
}

func up(t testing.TB, nl *netlink.Handle, name string) netlink.Link {
	t.Helper()
	l := must[netlink.Link](t)(nl.LinkByName(name))
	if err := nl.LinkSetUp(l); err != nil {
		t.Fatal(err)
	}
	return l
}

func addAddr(t testing.TB, nl *netlink.Handle, l netlink.Link, prefix string) {
	t.Helper()
	a := must[*netlink.Addr](t)(netlink.ParseAddr(prefix))
	a.Flags |= unix.IFA_F_NODAD
	if err := nl.AddrAdd(l, a); err != nil {
		t.Fatal(err)
	}
}

func newNode(t testing.TB) *node {
	t.Helper()
	need.Root(t, "makes network namespaces")
	n := &node{t: t, next: 11, addr4: netip.MustParseAddr("10.77.0.1"), addr6: netip.MustParseAddr("fd77::1")}
	n.ns, n.nl = newNamespace(t)
	if err := n.nl.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}); err != nil {
		t.Fatal(err)
	}
	br := up(t, n.nl, "br0")
	addAddr(t, n.nl, br, n.addr4.String()+"/24")
	addAddr(t, n.nl, br, n.addr6.String()+"/64")
	return n
}

// pod adds a pod to the node.
func (n *node) pod() *pod {
	n.t.Helper()
	i := n.next
	n.next++
	p := &pod{
		t: n.t, node: n,
		ip4: netip.MustParseAddr(fmt.Sprintf("10.77.0.%d", i)),
		ip6: netip.MustParseAddr(fmt.Sprintf("fd77::%d", i)),
	}
	p.ns, p.nl = newNamespace(n.t)
	outer := fmt.Sprintf("pod%d", i)
	if err := n.nl.LinkAdd(&netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: outer}, PeerName: "eth0", PeerNamespace: netlink.NsFd(p.ns.Fd()),
	}); err != nil {
		n.t.Fatal(err)
	}
	br := must[netlink.Link](n.t)(n.nl.LinkByName("br0"))
	if err := n.nl.LinkSetMaster(up(n.t, n.nl, outer), br); err != nil {
		n.t.Fatal(err)
	}
	eth := up(n.t, p.nl, "eth0")
	addAddr(n.t, p.nl, eth, p.ip4.String()+"/24")
	addAddr(n.t, p.nl, eth, p.ip6.String()+"/64")
	for _, gw := range []netip.Addr{n.addr4, n.addr6} {
		if err := p.nl.RouteAdd(&netlink.Route{LinkIndex: eth.Attrs().Index, Gw: gw.AsSlice()}); err != nil {
			n.t.Fatal(err)
		}
	}
	for _, a := range []netip.Addr{p.ip4, p.ip6} { // IPv6 addresses come into force a moment later
		eventually(n.t, "the pod has "+a.String(), func() bool {
			routes, err := p.nl.RouteGet(a.AsSlice())
			return err == nil && len(routes) > 0 && routes[0].Type == unix.RTN_LOCAL
		})
	}
	return p
}

func (p *pod) addr(v6 bool) netip.Addr {
	if v6 {
		return p.ip6
	}
	return p.ip4
}

func (p *pod) wanted() Pod { return Pod{IPv4: p.ip4, IPv6: p.ip6, DNS: true} }

func (p *pod) cookie() uint64 { return must[uint64](p.t)(p.ns.Cookie()) }

// plain is a net.ListenConfig or net.Dialer without MPTCP, which Go uses by default.
func plainListen(control func(network, address string, c syscall.RawConn) error) *net.ListenConfig {
	lc := &net.ListenConfig{Control: control}
	lc.SetMultipathTCP(false)
	return lc
}

// listen opens an application's listener in the pod.
func (p *pod) listen(network, addr string) net.Listener {
	p.t.Helper()
	var ln net.Listener
	if err := p.ns.Do(func() (err error) {
		ln, err = plainListen(nil).Listen(p.t.Context(), network, addr)
		return err
	}); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { ln.Close() })
	return ln
}

const patience = 30 * time.Second // emulated machines are slow

// dial connects as an application of the namespace.
func dialIn(t testing.TB, ns *netns.Handle, network, addr string, timeout time.Duration) (conn net.Conn, err error) {
	t.Helper()
	err = ns.Do(func() (err error) {
		d := net.Dialer{Timeout: timeout}
		d.SetMultipathTCP(false)
		conn, err = d.DialContext(t.Context(), network, addr)
		return err
	})
	if err == nil {
		t.Cleanup(func() { conn.Close() })
		conn.SetDeadline(time.Now().Add(patience))
	}
	return conn, err
}

func (p *pod) dial(network, addr string) net.Conn {
	p.t.Helper()
	return must[net.Conn](p.t)(dialIn(p.t, p.ns, network, addr, patience))
}

// serve answers each connection with the address of its peer, as the application sees it, then echoes.
func serve(ln net.Listener) {
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				fmt.Fprintf(c, "%s\n", c.RemoteAddr())
				io.Copy(c, c)
			}()
		}
	}()
}

// line reads to the end of a line.
func line(t testing.TB, c net.Conn) string {
	t.Helper()
	s, err := readLine(c)
	if err != nil {
		t.Fatalf("read from %s: %v (got %q)", c.RemoteAddr(), err, s)
	}
	return s
}

func readLine(c net.Conn) (string, error) {
	var s strings.Builder
	b := make([]byte, 1)
	for {
		if _, err := c.Read(b); err != nil {
			return s.String(), err
		}
		if b[0] == '\n' {
			return s.String(), nil
		}
		s.WriteByte(b[0])
	}
}

// mesh is the ztunnel of one pod, as small as can be: what comes to 15001 is connected to where the application wanted, what comes
// to 15006 to the application, with the client's address. Tunnels are only counted.
type mesh struct {
	d     *Datapath
	pod   *pod
	lns   []net.Listener
	roles []Role // of lns
	wait  sync.WaitGroup

	accepted [RoleOutgoing]atomic.Int64
	last     [RoleOutgoing]atomic.Pointer[string] // LocalAddr of the last accepted
}

var meshPorts = map[Role]int{RoleOutbound: 15001, RoleInbound: 15006, RoleHBONE: 15008, RoleDNS: 15053}

// newMesh opens, tags and sets the pod's listeners, and serves them until the test ends or stop.
func newMesh(d *Datapath, p *pod) *mesh {
	p.t.Helper()
	m := &mesh{d: d, pod: p}
	for role, port := range meshPorts {
		var ln net.Listener
		err := p.ns.Do(func() (err error) {
			lc := plainListen(func(_, _ string, c syscall.RawConn) error {
				var tagErr error
				err := c.Control(func(fd uintptr) { tagErr = d.Tag(int(fd), role) })
				return errors.Join(err, tagErr)
			})
			ln, err = lc.Listen(p.t.Context(), "tcp", fmt.Sprintf("[::]:%d", port))
			return err
		})
		if err != nil {
			p.t.Fatal(err)
		}
		m.set(role, ln)
		m.adopt(role, ln)
	}
	p.t.Cleanup(m.stop)
	return m
}

// adopt serves a listener.
func (m *mesh) adopt(role Role, ln net.Listener) {
	m.lns, m.roles = append(m.lns, ln), append(m.roles, role)
	m.wait.Go(func() { m.accept(role, ln) })
}

func (m *mesh) set(role Role, ln net.Listener) {
	raw, err := ln.(*net.TCPListener).SyscallConn()
	if err != nil {
		m.pod.t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) {
		for _, a := range []netip.Addr{m.pod.ip4, m.pod.ip6} {
			if err := m.d.SetListener(a, role, int(fd)); err != nil {
				m.pod.t.Error(err)
			}
		}
	}); err != nil {
		m.pod.t.Fatal(err)
	}
}

// stop closes the listeners, as when both agent and ztunnel have died.
func (m *mesh) stop() {
	for _, ln := range m.lns {
		ln.Close()
	}
	m.wait.Wait()
}

func (m *mesh) accept(role Role, ln net.Listener) {
	for {
		down, err := ln.Accept()
		if err != nil {
			return
		}
		to := down.LocalAddr().String()
		m.last[role].Store(&to)
		m.accepted[role].Add(1)
		dst := netip.MustParseAddrPort(to)
		if role == RoleHBONE { // speaks no HTTP/2
			down.Close()
			continue
		}
		if dst.Addr().IsUnspecified() {
			down.(*net.TCPConn).SetLinger(0)
			down.Close()
			continue
		}
		var present netip.AddrPort
		if role != RoleOutbound && role != RoleDNS {
			present = down.RemoteAddr().(*net.TCPAddr).AddrPort()
		}
		m.wait.Go(func() { m.copy(down, present, dst) })
	}
}

// outgoing makes a tagged socket in the pod, and presents a source if there is one.
func (m *mesh) outgoing(network string, present netip.AddrPort, dst netip.AddrPort) (conn net.Conn, err error) {
	err = m.pod.ns.Do(func() (err error) {
		dialer := net.Dialer{Timeout: patience, Control: func(_, _ string, c syscall.RawConn) error {
			var tagErr error
			err := c.Control(func(fd uintptr) {
				if tagErr = m.d.Tag(int(fd), RoleOutgoing); tagErr == nil && present.IsValid() {
					tagErr = unix.Bind(int(fd), sockaddr(present, dst.Addr().Unmap().Is4()))
				}
			})
			return errors.Join(err, tagErr)
		}}
		dialer.SetMultipathTCP(false)
		conn, err = dialer.Dial(network, dst.String())
		return err
	})
	return conn, err
}

func sockaddr(a netip.AddrPort, v4 bool) unix.Sockaddr {
	if v4 {
		return &unix.SockaddrInet4{Addr: a.Addr().Unmap().As4(), Port: int(a.Port())}
	}
	return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
}

func (m *mesh) copy(down net.Conn, present, dst netip.AddrPort) {
	defer down.Close()
	up, err := m.outgoing("tcp", present, dst)
	if err != nil {
		return
	}
	defer up.Close()
	for _, c := range []net.Conn{up, down} {
		c.SetDeadline(time.Now().Add(2 * patience))
	}
	var sent sync.WaitGroup
	sent.Go(func() {
		io.Copy(up, down)
		up.(*net.TCPConn).CloseWrite()
	})
	io.Copy(down, up)
	down.(*net.TCPConn).CloseWrite()
	sent.Wait()
}

// enrol makes the mesh of a pod and enrols it.
func enrol(d *Datapath, p *pod) *mesh {
	p.t.Helper()
	m := newMesh(d, p)
	if _, err := d.Enroll(p.ns, p.wanted()); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { d.Withdraw(p.cookie(), p.ns) })
	return m
}

func count(t testing.TB, d *Datapath, o Outcome) uint64 {
	t.Helper()
	return must[map[Outcome]uint64](t)(d.Counters())[o]
}

// slots is how many entries the three handshake maps hold.
func slots(t testing.TB, d *Datapath) (n int) {
	t.Helper()
	for _, name := range []string{mapSlots, mapFlows, mapSteers} {
		m := d.obj.maps[name]
		key, value := make([]byte, m.KeySize()), make([]byte, m.ValueSize())
		it := m.Iterate()
		for it.Next(&key, &value) {
			n++
		}
		if err := it.Err(); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// eventually waits for what the kernel does a moment later.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("never happened: %s", what)
		}
		pause()
	}
}

func pause() { unix.Poll(nil, 5) }
