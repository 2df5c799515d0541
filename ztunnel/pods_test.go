package ztunnel

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"testing"
	"time"

	"github.com/ambit-mesh/ambit/controller/api/spiffe"
	"github.com/ambit-mesh/ambit/ztunnel/cert/certtest"
	"github.com/ambit-mesh/ambit/ztunnel/hbone"
	"github.com/ambit-mesh/ambit/ztunnel/sockets"
	"github.com/ambit-mesh/ambit/ztunnel/sockets/socketstest"
	"github.com/ambit-mesh/ambit/ztunnel/state"
)

// A pod that is gone takes its connections with it, in both directions, at once.
func TestPodGone(t *testing.T) {
	for _, which := range []string{"client", "server"} {
		t.Run(which, func(t *testing.T) {
			m, client, server, dst := pair(t)
			c := m.dial(client, dst)
			greet(t, c)
			if which == "client" {
				m.nodes[0].dp.pods.Remove(client.UID, sockets.Gone)
			} else {
				m.nodes[1].dp.pods.Remove(server.UID, sockets.Gone)
			}
			expectReset(t, c)
			m.nodes[0].log.wait(t, line{"direction": "outbound"})
			m.nodes[1].log.wait(t, line{"direction": "inbound"})
			if which == "client" {
				m.nodes[0].log.wait(t, line{"direction": "outbound", "close": "pod gone"})
			} else {
				m.nodes[1].log.wait(t, line{"direction": "inbound", "close": "pod gone"})
			}
		})
	}
}

// A pod that left the mesh accepts nothing more; what is open goes on, and a tunnel takes no new connections.
func TestPodLeft(t *testing.T) {
	m, client, server, dst := pair(t)
	c := m.dial(client, dst)
	greet(t, c)
	m.nodes[1].dp.pods.Remove(server.UID, sockets.Left)
	exchange(t, c, "goes on")
	eventually(t, "the tunnel is gone or drained", func() bool {
		c, err := m.net.Connect(t.Context(), client, dst)
		if err != nil {
			return true
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(patience))
		_, err = c.Read(make([]byte, 1))
		return err != nil
	})
	exchange(t, c, "still")
	c.CloseWrite()
	if _, err := io.ReadAll(c); err != nil {
		t.Error(err)
	}
	m.nodes[1].log.wait(t, line{"direction": "inbound", "close": "eof"})
	eventually(t, "the pod has ended", func() bool { return m.nodes[1].dp.pods.Open() == 0 })
}

// eventually waits for what happens in another goroutine.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); <-time.After(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

// The agent may bring a pod again: with new listeners in the same namespace its connections stay, in another one they are
// dead.
func TestPodAgain(t *testing.T) {
	m, client, _, dst := pair(t)
	c := m.dial(client, dst)
	greet(t, c)
	again := m.net.AddPod("shop", "web", "web")
	m.net.Remove(again)
	same := *client.Pod
	if err := m.nodes[0].dp.pods.Add(&same, again.Listeners); err != nil {
		t.Fatal(err)
	}
	exchange(t, c, "same namespace")
	third := m.net.AddPod("shop", "web", "web")
	m.net.Remove(third)
	other := same
	other.NetnsCookie++
	if err := m.nodes[0].dp.pods.Add(&other, third.Listeners); err != nil {
		t.Fatal(err)
	}
	exchange(t, c, "of the first one") // which is not the one that was replaced just now
	m.nodes[0].dp.pods.Remove(client.UID, sockets.Gone)
}

// A drain lets connections finish, and cuts what is left at its deadline.
func TestDrain(t *testing.T) {
	m, client, _, dst := pair(t)
	quick, slow := m.dial(client, dst), m.dial(client, dst)
	greet(t, quick)
	greet(t, slow)
	n := m.nodes[1]
	n.dp.pods.Drain(time.Now().Add(500 * time.Millisecond))
	exchange(t, quick, "finishing")
	quick.CloseWrite()
	if _, err := io.ReadAll(quick); err != nil {
		t.Errorf("the quick one: %v", err)
	}
	expectReset(t, slow)
	<-n.dp.pods.Over()
	n.log.wait(t, line{"direction": "inbound", "close": "eof"})
	n.log.wait(t, line{"direction": "inbound", "close": "drain deadline"})
	p := m.net.AddPod("shop", "late", "late")
	if err := n.dp.pods.Add(p.Pod, p.Listeners); err == nil {
		t.Error("a pod was added to a ztunnel that drains")
	}
}

// A drain without connections is over at once, and a deadline may only come nearer.
func TestDrainIdle(t *testing.T) {
	m, client, _, dst := pair(t)
	c := m.dial(client, dst)
	greet(t, c)
	n := m.nodes[0]
	n.dp.pods.Drain(time.Time{})
	n.dp.pods.Drain(time.Now().Add(time.Hour))
	exchange(t, c, "no hurry")
	n.dp.pods.Drain(time.Now())
	n.dp.pods.Drain(time.Now().Add(time.Hour))
	expectReset(t, c)
	<-n.dp.pods.Over()
}

// shake is a peer that speaks HBONE by hand, with an identity of the test's choice.
func shake(t *testing.T, m *mesh, from *socketstest.Pod, to *socketstest.Pod, identity string) (*hbone.TLSConn, error) {
	t.Helper()
	nc, err := m.net.ConnectFrom(t.Context(), from.Addresses[0], at(to, 15008))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	crt := m.ca.Issue(t, certtest.ID(identity))
	var h hbone.Handshaker
	tc, err := h.Client(t.Context(), nc, crt.Client([]spiffe.ID{certtest.ID("shop/cart")}))
	if err != nil {
		return nil, err
	}
	return tc, nil
}

// Ten thousand peers that connect and say nothing cost their own places only: honest ones come through.
func TestHalfOpenHandshakes(t *testing.T) {
	m := newMesh(t)
	a := m.node("n1", nil)
	b := m.node("n2", func(p *parts) { p.limits.Handshakes = 64 })
	client, server := a.pod("shop", "web", nil), b.pod("shop", "cart", nil)
	dst := m.app(server.Addresses[0], echo)
	const many = 2000
	var idle []*net.TCPConn
	defer func() {
		for _, c := range idle {
			c.Close()
		}
	}()
	for range many {
		c, err := m.net.ConnectFrom(t.Context(), m.net.Addr(), at(server, 15008))
		if err != nil {
			t.Fatal(err)
		}
		idle = append(idle, c)
	}
	expectReset(t, idle[0]) // all were accepted, and the oldest make room
	eventually(t, "the oldest make room", func() bool { return b.dp.pods.Open() <= 64 })
	c := m.dial(client, dst)
	greet(t, c)
	b.log.wait(t, line{"message": "connection failed", "reason": "TLSHandshake"})
}

func TestHandshakeTimeout(t *testing.T) {
	m := newMesh(t)
	b := m.node("n2", func(p *parts) { p.handshakeTimeout = 100 * time.Millisecond })
	server := b.pod("shop", "cart", nil)
	for _, first := range []string{"", "\x16\x03\x01", "GET / HTTP/1.1\r\n\r\n"} {
		c, err := m.net.ConnectFrom(t.Context(), m.net.Addr(), at(server, 15008))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.Write([]byte(first))
		_ = c.SetDeadline(time.Now().Add(patience))
		if _, err := io.ReadAll(c); isTimeout(err) {
			t.Errorf("after %q the connection stays", first)
		}
		c.Close()
	}
	b.log.wait(t, line{"message": "connection failed", "reason": "TLSHandshake"})
}

func isTimeout(err error) bool {
	ne, ok := err.(net.Error)
	return ok && ne.Timeout()
}

// Who is of another trust domain, or of another CA, gets no tunnel.
func TestStrangersGetNoTunnel(t *testing.T) {
	m := newMesh(t)
	n := m.node("n1", nil)
	server := n.pod("shop", "cart", nil)
	from := m.net.AddPod("shop", "web", "web")
	from.Listeners.Close()
	if tc, err := shake(t, m, from, server, "shop/web"); err != nil {
		t.Errorf("a member of the mesh: %v", err)
	} else {
		tc.Close()
	}
	other := newMesh(t) // another CA
	nc, err := m.net.ConnectFrom(t.Context(), from.Addresses[0], at(server, 15008))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	crt := other.ca.Issue(t, certtest.ID("shop/web"))
	cfg := crt.Client(nil).Clone()
	cfg.VerifyConnection = func(tls.ConnectionState) error { return nil }
	tc := tls.Client(nc, cfg)
	_ = tc.SetDeadline(time.Now().Add(patience))
	if err := tc.Handshake(); err == nil {
		_, err = tc.Read(make([]byte, 1))
		if err == nil || isTimeout(err) {
			t.Errorf("a stranger got a tunnel: %v", err)
		}
	}
	n.log.wait(t, line{"message": "connection failed", "reason": "TLSHandshake"})
}

// What a CONNECT may ask for (ztunnel.md 2.4).
func TestStatuses(t *testing.T) {
	m := newMesh(t)
	n := m.node("n1", nil)
	server := n.pod("shop", "cart", nil)
	app := m.app(server.Addresses[0], echo)
	m.apply(&state.Update{Policies: []*state.Policy{deny("no-evil", principal("evil"))}})
	from := m.net.AddPod("shop", "web", "web")
	from.Listeners.Close()
	for _, tc := range []struct {
		who, authority string
		want           int
	}{
		{"shop/web", app.String(), 200},
		{"shop/evil", app.String(), 401},
		{"shop/web", "10.255.255.1:80", 400},
		{"shop/web", "nonsense", 400},
		{"shop/web", "unknown.example.com:80", 503},
		{"shop/web", at(server, 15006).String(), 503},
		{"shop/web", at(server, 9).String(), 503},
	} {
		t.Run(tc.who+" "+tc.authority, func(t *testing.T) {
			tls, err := shake(t, m, from, server, tc.who)
			if err != nil {
				t.Fatal(err)
			}
			client := hbone.NewClientConn(tls, hbone.Config{})
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan struct{})
			go func() { defer close(ended); client.Run(ctx) }()
			defer func() { cancel(); <-ended }()
			s, resp, _ := client.Connect(ctx, &hbone.Head{Authority: tc.authority})
			if resp.Status != tc.want {
				t.Errorf("status %d, want %d", resp.Status, tc.want)
			}
			if s != nil {
				if resp.Baggage.Service != "cart" {
					t.Errorf("the answer describes %+v", resp.Baggage)
				}
				s.Close()
			}
		})
	}
}

// A certificate is renewed: tunnels made with the old one take no new connections, and lose none.
func TestRotation(t *testing.T) {
	m := newMesh(t)
	m.ca = certtest.New(t)
	a, b := m.node("n1", nil), m.node("n2", nil)
	client, server := a.pod("shop", "web", nil), b.pod("shop", "cart", nil)
	dst := m.app(server.Addresses[0], echo)
	c := m.dial(client, dst)
	greet(t, c)
	a.dp.outbound.Rotated(certtest.ID("shop/web"))
	second := m.dial(client, dst)
	greet(t, second)
	exchange(t, c, "on the old tunnel")
	exchange(t, second, "on the new one")
	if n := m.net.Dials(at(server, 15008)); n != 2 {
		t.Errorf("%d tunnels, want 2", n)
	}
}

// The CA is away: connections fail with a reason, and nothing is sent in plain text.
func TestNoCertificate(t *testing.T) {
	m := newMesh(t)
	m.ca.Intercept(func(_ context.Context, id spiffe.ID) error { return io.ErrUnexpectedEOF })
	a := m.node("n1", nil)
	b := m.node("n2", nil)
	client, server := a.pod("shop", "web", nil), b.pod("shop", "cart", nil)
	m.expectNoWay(client, m.app(server.Addresses[0], echo))
	a.log.wait(t, line{"direction": "outbound", "close": "not connected", "plan": "hbone"})
	if n := m.net.Dials(at(server, 15008)); n != 0 {
		t.Errorf("%d dials without an identity", n)
	}
}

// A client that sends and never reads is stopped, not buffered without end.
func TestSlowReader(t *testing.T) {
	m := newMesh(t)
	a, b := m.node("n1", nil), m.node("n2", nil)
	client, server := a.pod("shop", "web", nil), b.pod("shop", "cart", nil)
	stop := make(chan struct{})
	dst := m.app(server.Addresses[0], func(*net.TCPConn) { <-stop })
	c := m.dial(client, dst)
	_ = c.SetWriteDeadline(time.Now().Add(time.Second))
	n, err := io.Copy(c, endless{})
	if !isTimeout(err) {
		t.Fatalf("sent %d: %v", n, err)
	}
	if queued := b.dp.tunnels.QueuedBytes.Load(); queued > 5<<20 {
		t.Errorf("%d bytes are queued", queued)
	}
	// The application ends without having read: that is a reset, and the client learns of it.
	close(stop)
	_ = c.SetDeadline(time.Now().Add(patience))
	expectReset(t, c)
	a.log.wait(t, line{"direction": "outbound", "close": "reset by server"})
	b.log.wait(t, line{"direction": "inbound", "close": "reset by server"})
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }
