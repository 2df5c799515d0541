package ztunnel

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"github.com/ambit-mesh/ambit/ztunnel/sockets"
	"github.com/ambit-mesh/ambit/ztunnel/sockets/socketstest"
	"github.com/ambit-mesh/ambit/ztunnel/state"
)

// service makes a service with a virtual address whose endpoints join it with member.
func (m *mesh) service(port uint16) (vip netip.AddrPort, svc *state.Service, member func(target uint16) func(*state.Workload)) {
	vip = netip.AddrPortFrom(m.net.Addr(), port)
	svc = &state.Service{
		Name: "cart", Namespace: "shop", Hostname: "cart.shop.svc.cluster.local", VIPs: []state.NetworkAddr{{IP: vip.Addr()}},
		Ports: []state.Port{{Service: port}},
	}
	return vip, svc, func(target uint16) func(*state.Workload) {
		return func(w *state.Workload) {
			w.Profile.Services = []state.Membership{{Service: svc.Key(), Ports: []state.Port{{Service: port, Target: target}}}}
		}
	}
}

// endpoint adds a pod with an echo application to a service.
func (n *node) endpoint(name string, member func(uint16) func(*state.Workload)) *socketstest.Pod {
	n.m.t.Helper()
	p := n.m.net.AddPod("shop", name, "cart")
	app := n.m.app(p.Addresses[0], echo)
	w := workload(n.name, p.Pod)
	member(app.Port())(w)
	n.m.apply(&state.Update{Workloads: []*state.Workload{w}})
	if err := n.dp.pods.Add(p.Pod, p.Listeners); err != nil {
		n.m.t.Fatal(err)
	}
	return p
}

// once is a short connection to an echo application.
func (m *mesh) once(p *socketstest.Pod, dst netip.AddrPort) {
	m.t.Helper()
	c := m.dial(p, dst)
	greet(m.t, c)
	c.Close()
}

func TestServiceAndSecondEndpoint(t *testing.T) {
	m := newMesh(t)
	a, b := m.node("n1", nil), m.node("n2", nil)
	vip, svc, member := m.service(80)
	m.apply(&state.Update{Services: []*state.Service{svc}})
	client := a.pod("shop", "web", nil)
	one, two := b.endpoint("cart-1", member), b.endpoint("cart-2", member)

	for range 8 { // whichever is chosen
		m.once(client, vip)
	}
	a.log.wait(t, line{"dst.service": "cart.shop.svc.cluster.local"})
	b.log.wait(t, line{"direction": "inbound", "dst.service": "cart.shop.svc.cluster.local"})

	// One endpoint cannot be reached: every connection still succeeds.
	m.net.Fail(at(one, 15008), syscall.EHOSTUNREACH)
	before := m.net.Dials(at(one, 15008))
	b.dp.pods.Remove(one.UID, sockets.Gone) // its tunnels end, so that it has to be dialled
	eventually(t, "only the other's tunnel is left", func() bool { return b.dp.pods.Open() <= 1 })
	for range 16 {
		m.once(client, vip)
	}
	if m.net.Dials(at(one, 15008)) == before {
		t.Error("the broken endpoint was never chosen: nothing was tested")
	}
	// Neither can be reached.
	m.net.Fail(at(two, 15008), syscall.EHOSTUNREACH)
	b.dp.pods.Remove(two.UID, sockets.Gone)
	eventually(t, "no tunnel is left", func() bool { return b.dp.pods.Open() == 0 })
	m.expectNoWay(client, vip)
	got := a.log.wait(t, line{"direction": "outbound", "close": "not connected"})
	if !strings.Contains(got["error"].(string), "no route to host") {
		t.Errorf("%v", got)
	}
}

func TestServiceWithoutEndpoints(t *testing.T) {
	m := newMesh(t)
	n := m.node("n1", nil)
	vip, svc, _ := m.service(80)
	m.apply(&state.Update{Services: []*state.Service{svc}})
	m.expectNoWay(n.pod("shop", "web", nil), vip)
	n.log.wait(t, line{"plan": "refuse", "reason": "NoEndpoints", "dst.service": svc.Hostname})
}

// A service with a waypoint: traffic goes there and nowhere else.
func TestWaypoint(t *testing.T) {
	m := newMesh(t)
	a, b := m.node("n1", nil), m.node("n2", nil)
	vip, svc, member := m.service(80)
	waypoint := m.net.AddPod("shop", "waypoint", "waypoint")
	target := b.endpoint("cart-1", member)
	svc.Waypoint = &state.Gateway{Addr: state.NetworkAddr{IP: waypoint.Addresses[0]}, Port: 15008}
	m.apply(&state.Update{Services: []*state.Service{svc}})
	client := a.pod("shop", "web", nil)
	m.expectNoWay(client, vip) // nobody knows the waypoint
	a.log.wait(t, line{"plan": "refuse", "reason": "WaypointUnresolved"})
	if m.net.Dials(at(target, 15008)) != 0 {
		t.Error("traffic went past the waypoint")
	}
	// The waypoint appears; here it is a pod whose application serves the authority it is asked for.
	record := workload("n2", waypoint.Pod)
	record.Profile.AppTunnel = state.AppTunnel{Present: true, Port: m.app(waypoint.Addresses[0], echo).Port()}
	m.apply(&state.Update{Workloads: []*state.Workload{record}})
	if err := b.dp.pods.Add(waypoint.Pod, waypoint.Listeners); err != nil {
		t.Fatal(err)
	}
	m.once(client, vip)
	a.log.wait(t, line{"plan": "waypoint", "dst.hbone_addr": vip, "dst.workload": "waypoint", "dst.service": svc.Hostname})
}

// The application of the only endpoint refuses: the client's application sees a reset, not an end of file.
func TestApplicationRefuses(t *testing.T) {
	m := newMesh(t)
	a, b := m.node("n1", nil), m.node("n2", nil)
	client, server := a.pod("shop", "web", nil), b.pod("shop", "cart", nil)
	m.expectNoWay(client, at(server, 9))
	b.log.wait(t, line{"direction": "inbound", "close": "not connected"})
	a.log.wait(t, line{"direction": "outbound", "error": "hbone: CONNECT answered with status 503"})
	m.expectResetOf(m.net.ConnectFrom(t.Context(), m.net.Addr(), at(server, 9)))
}

func TestNoOriginalDestination(t *testing.T) {
	m := newMesh(t)
	n := m.node("n1", nil)
	client := n.pod("shop", "web", nil)
	m.expectResetOf(m.net.Uncaptured(t.Context(), client))
	n.log.wait(t, line{"message": "connection failed", "reason": "NoOriginalDestination"})
}

// Nobody may pose as somebody else: the tunnel's far end must have the identity of the workload that was meant.
func TestWrongIdentity(t *testing.T) {
	m := newMesh(t)
	a, b := m.node("n1", nil), m.node("n2", nil)
	client := a.pod("shop", "web", nil)
	server := b.pod("shop", "cart", nil)
	dst := m.app(server.Addresses[0], echo)
	impostor := workload("n2", server.Pod)
	impostor.Profile.ServiceAccount = "somebody-else"
	a.store.Apply(&state.Update{Workloads: []*state.Workload{impostor}})
	m.expectNoWay(client, dst)
	got := a.log.wait(t, line{"direction": "outbound", "close": "not connected"})
	if !strings.Contains(got["error"].(string), "unexpected peer identity") {
		t.Errorf("%v", got)
	}
}

// An application that is itself a proxy learns by the PROXY protocol who is at the other end.
func TestApplicationTunnel(t *testing.T) {
	m := newMesh(t)
	a, b := m.node("n1", nil), m.node("n2", nil)
	header := make(chan []byte, 1)
	app := m.app(netip.MustParseAddr("127.0.0.1"), func(c *net.TCPConn) {
		b := make([]byte, 512)
		n, _ := c.Read(b)
		header <- b[:n]
		_, _ = io.Copy(c, c)
	})
	client := a.pod("shop", "web", nil)
	server := b.pod("shop", "proxy", func(w *state.Workload) {
		w.Profile.AppTunnel = state.AppTunnel{Present: true, Proxy: true, Port: app.Port()}
	})
	c := m.dial(client, at(server, 8443))
	got := <-header
	if !bytes.HasPrefix(got, []byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11")) || !bytes.HasSuffix(got, []byte("spiffe://cluster.local/ns/shop/sa/web")) {
		t.Errorf("header %q", got)
	}
	if want := server.Addresses[0].As4(); !bytes.Equal(got[20:24], want[:]) || binary.BigEndian.Uint16(got[26:28]) != 8443 {
		t.Errorf("destination in the header: %v:%d", got[20:24], binary.BigEndian.Uint16(got[26:28]))
	}
	exchange(t, c, "after the header")
}
