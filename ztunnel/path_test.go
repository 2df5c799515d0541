package ztunnel

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"

	"github.com/ambit-mesh/ambit/ztunnel/passthrough"
	"github.com/ambit-mesh/ambit/ztunnel/sockets/socketstest"
)

// pair is a client pod on one node and a server pod with an echo application on another.
func pair(t testing.TB) (m *mesh, client, server *socketstest.Pod, port netip.AddrPort) {
	m = newMesh(t)
	a, b := m.node("n1", nil), m.node("n2", nil)
	client, server = a.pod("shop", "web", nil), b.pod("shop", "cart", nil)
	return m, client, server, m.app(server.Addresses[0], echo)
}

func TestThroughTunnel(t *testing.T) {
	m, client, server, dst := pair(t)
	for range 3 { // the second and third use the tunnel that is there
		c := m.dial(client, dst)
		if got := greet(t, c); got != client.Addresses[0].String() {
			t.Errorf("the application sees %s, want %s", got, client.Addresses[0])
		}
		exchange(t, c, "some words")
		c.CloseWrite()
		if rest, err := io.ReadAll(c); len(rest) != 0 || err != nil {
			t.Errorf("after the end: %q, %v", rest, err)
		}
	}
	if n := m.net.Dials(at(server, 15008)); n != 1 {
		t.Errorf("%d tunnels, want 1", n)
	}
	m.nodes[0].log.wait(t, line{
		"direction": "outbound", "plan": "hbone", "src.workload": "web", "dst.workload": "cart", "dst.addr": at(server, 15008),
		"dst.hbone_addr": dst, "src.identity": "spiffe://cluster.local/ns/shop/sa/web",
		"dst.identity": "spiffe://cluster.local/ns/shop/sa/cart", "bytes_sent": 10, "close": "eof", "reason": "ToWorkload",
	})
	m.nodes[1].log.wait(t, line{
		"direction": "inbound", "plan": "hbone", "src.workload": "web", "dst.workload": "cart", "bytes_recv": 10,
		"src.identity": "spiffe://cluster.local/ns/shop/sa/web", "close": "eof", "reason": "NoPolicy",
	})
}

func TestSameNode(t *testing.T) {
	m := newMesh(t)
	n := m.node("n1", nil)
	client, server := n.pod("shop", "web", nil), n.pod("shop", "cart", nil)
	c := m.dial(client, m.app(server.Addresses[0], echo))
	if got := greet(t, c); got != client.Addresses[0].String() {
		t.Errorf("the application sees %s", got)
	}
	exchange(t, c, "near")
	c.Close()
	n.log.wait(t, line{"direction": "outbound", "plan": "same-node"})
	n.log.wait(t, line{"direction": "inbound", "plan": "hbone"})
}

func TestPassthrough(t *testing.T) {
	m := newMesh(t)
	n := m.node("n1", nil)
	client := n.pod("shop", "web", nil)
	c := m.dial(client, m.app(m.net.Addr(), echo))
	greet(t, c)
	exchange(t, c, "to the world outside")
	c.Close()
	n.log.wait(t, line{"direction": "outbound", "plan": "direct", "reason": "Unknown", "bytes_sent": 20, "close": "eof"})
}

func TestPlaintextArrives(t *testing.T) {
	m := newMesh(t)
	n := m.node("n1", nil)
	server := n.pod("shop", "cart", nil)
	from := m.net.Addr()
	c, err := m.net.ConnectFrom(t.Context(), from, m.app(server.Addresses[0], echo))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := greet(t, c); got != from.String() {
		t.Errorf("the application sees %s, want %s", got, from)
	}
	exchange(t, c, "no identity")
	c.Close()
	got := n.log.wait(t, line{"direction": "inbound", "plan": "plaintext", "dst.workload": "cart", "bytes_recv": 11, "reason": "NoPolicy"})
	if got["src.identity"] != nil {
		t.Errorf("an identity from nowhere: %v", got)
	}
}

// What one side does to its socket is what the other side sees, through both tunnels and in both directions.
func TestEndsTravel(t *testing.T) {
	type act func(*net.TCPConn)
	eof := func(c *net.TCPConn) { c.CloseWrite() }
	for _, tc := range []struct {
		name     string
		act      act
		byServer bool
		want     error // of a read at the other side
	}{
		{"client ends", eof, false, io.EOF},
		{"server ends", eof, true, io.EOF},
		{"client resets", passthrough.Reset, false, syscall.ECONNRESET},
		{"server resets", passthrough.Reset, true, syscall.ECONNRESET},
	} {
		for _, how := range []string{"tunnel", "outside", "plaintext"} {
			t.Run(tc.name+"/"+how, func(t *testing.T) {
				m := newMesh(t)
				a, b := m.node("n1", nil), m.node("n2", nil)
				client, server := a.pod("shop", "web", nil), b.pod("shop", "cart", nil)
				conns, done := make(chan *net.TCPConn, 1), make(chan struct{})
				host := server.Addresses[0]
				if how == "outside" {
					host = m.net.Addr()
				}
				dst := m.app(host, func(c *net.TCPConn) { conns <- c; <-done })
				var c *net.TCPConn
				if how == "plaintext" {
					var err error
					if c, err = m.net.ConnectFrom(t.Context(), m.net.Addr(), dst); err != nil {
						t.Fatal(err)
					}
					defer c.Close()
				} else {
					c = m.dial(client, dst)
				}
				defer close(done)
				c.Write([]byte("x"))
				s := <-conns
				if _, err := io.ReadFull(s, make([]byte, 1)); err != nil {
					t.Fatal(err)
				}
				from, to := c, s
				if tc.byServer {
					from, to = s, c
				}
				tc.act(from)
				if _, err := to.Read(make([]byte, 1)); !errors.Is(err, tc.want) {
					t.Errorf("the other side sees %v, want %v", err, tc.want)
				}
				if tc.want != io.EOF {
					return
				}
				if _, err := to.Write([]byte("the last word")); err != nil {
					t.Fatalf("half-closed: %v", err)
				}
				to.Close()
				if got, err := io.ReadAll(from); string(got) != "the last word" || err != nil {
					t.Errorf("half-closed: %q, %v", got, err)
				}
			})
		}
	}
}
