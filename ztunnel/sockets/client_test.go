package sockets

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/ambit-mesh/ambit/agent/api"
)

func TestMain(m *testing.M) {
	before := openFiles()
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
		if after := openFiles(); after > before+2 { // the runtime's own poller and event descriptor
			fmt.Fprintf(os.Stderr, "%d files open before the tests, %d after\n", before, after)
			code = 1
		}
	}
	os.Exit(code)
}

func openFiles() int {
	entries, _ := os.ReadDir("/proc/self/fd")
	return len(entries)
}

// server listens on the loopback interface and hands out what it accepts.
func server(t *testing.T) (netip.AddrPort, <-chan *net.TCPConn) {
	t.Helper()
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	conns := make(chan *net.TCPConn, 1024)
	var done sync.WaitGroup
	done.Go(func() {
		for {
			c, err := l.AcceptTCP()
			if err != nil {
				return
			}
			conns <- c
		}
	})
	t.Cleanup(func() {
		l.Close()
		done.Wait()
		close(conns)
		for c := range conns {
			c.Close()
		}
	})
	return l.Addr().(*net.TCPAddr).AddrPort(), conns
}

func TestPodArrivesAndDials(t *testing.T) {
	a := newAgent(t)
	c, h := start(t, a, nil)
	conn := a.accept()
	a.expect((*api.ToAgent).GetReturnDone, "return done")
	out := a.addPod(conn, pod("p1"))
	a.ack(false)
	a.snapshot(conn)
	e := h.next(t, "add")
	h.next(t, "synced")
	a.expect((*api.ToAgent).GetReady, "ready")
	defer e.l.Close()

	app, err := net.DialTCP("tcp4", nil, out)
	if err != nil {
		t.Fatal(err)
	}
	defer app.Close()
	got, err := e.l.Outbound.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer got.Conn.Close()
	if got.Client.String() != app.LocalAddr().String() || got.Dest.String() != app.RemoteAddr().String() {
		t.Errorf("accepted %v -> %v, want %v -> %v", got.Client, got.Dest, app.LocalAddr(), app.RemoteAddr())
	}

	dst, accepted := server(t)
	present := netip.MustParseAddrPort("127.66.1.2:0")
	up, err := c.DialTCP(t.Context(), "p1", dst, present)
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	seen := <-accepted
	defer seen.Close()
	if got := seen.RemoteAddr().(*net.TCPAddr).AddrPort().Addr(); got != present.Addr() {
		t.Errorf("the application sees %v, want %v", got, present.Addr())
	}
	udp, err := c.DialUDP(t.Context(), "p1", netip.MustParseAddrPort("127.0.0.1:5353"))
	if err != nil {
		t.Fatal(err)
	}
	udp.Close()
}

func TestDialErrors(t *testing.T) {
	a := newAgent(t)
	c, h := start(t, a, nil)
	conn := a.accept()
	a.addPod(conn, pod("p1"))
	h.next(t, "add").l.Close()

	full := fullListener(t)
	soon, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	gone, cancelGone := context.WithCancelCause(t.Context())
	time.AfterFunc(50*time.Millisecond, func() { cancelGone(errPodEnded) })
	for _, tc := range []struct {
		name    string
		ctx     context.Context
		uid     string
		dst     netip.AddrPort
		op      Op
		want    error
		timeout bool
	}{
		{"unknown pod", t.Context(), "p2", full, OpTake, ErrUnknownPod, false},
		{"refused", t.Context(), "p1", closedPort(t), OpConnect, syscall.ECONNREFUSED, false},
		{"no answer", soon, "p1", full, OpConnect, os.ErrDeadlineExceeded, true},
		{"given up", gone, "p1", full, OpConnect, errPodEnded, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := c.DialTCP(tc.ctx, tc.uid, tc.dst, netip.AddrPort{})
			var e *Error
			if !errors.As(err, &e) || e.Op != tc.op || !errors.Is(err, tc.want) || e.Timeout() != tc.timeout {
				t.Errorf("got %v", err)
			}
		})
	}
}

var errPodEnded = errors.New("pod ended")

// fullListener is an address that lets nobody in: its queue is full.
func fullListener(t *testing.T) netip.AddrPort {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(sa.(*unix.SockaddrInet4).Port))
	first, err := net.Dial("tcp4", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { first.Close() })
	return addr
}

func closedPort(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// While the agent is away the stock serves, then dials wait and fail; the next agent gets the listeners back.
func TestAgentRestarts(t *testing.T) {
	a := newAgent(t)
	c, h := start(t, a, nil)
	conn := a.accept()
	a.expect((*api.ToAgent).GetReturnDone, "return done")
	out := a.addPod(conn, pod("p1"))
	a.addPod(conn, pod("p2"))
	a.ack(false)
	a.ack(false)
	a.snapshot(conn)
	first, second := h.next(t, "add"), h.next(t, "add")
	defer first.l.Close()
	defer second.l.Close()
	h.next(t, "synced")
	a.expect((*api.ToAgent).GetReady, "ready")
	waitStock(t, c, "p1", api.SocketKind_TCP4, MinTCPStock)

	a.ln.Close()
	conn.Close()
	dst, _ := server(t)
	dialed := 0
	for {
		up, err := c.DialTCP(t.Context(), "p1", dst, netip.AddrPort{})
		if errors.Is(err, ErrNoSockets) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		up.Close()
		dialed++
	}
	if dialed != MinTCPStock {
		t.Errorf("%d dials without an agent, want the stock of %d", dialed, MinTCPStock)
	}
	if app, err := net.DialTCP("tcp4", nil, out); err != nil {
		t.Errorf("the listener is gone with the agent: %v", err)
	} else {
		app.Close()
	}

	a.listen()
	conn = a.accept()
	for range 2 {
		p := a.expect((*api.ToAgent).GetReturnPod, "returned pod").GetReturnPod()
		fds := <-a.fds
		if p.GetPod().GetNamespace() != "shop" || len(fds) != 5 || len(p.GetKinds()) != 5 {
			t.Errorf("returned %v with %d descriptors", p, len(fds))
		}
		fds.Close()
	}
	a.expect((*api.ToAgent).GetReturnDone, "return done")
	a.send(conn, &api.ToZtunnel{Message: &api.ToZtunnel_KeepPod{KeepPod: &api.KeepPod{Uid: "p1"}}})
	a.ack(false)
	a.send(conn, &api.ToZtunnel{Message: &api.ToZtunnel_KeepPod{KeepPod: &api.KeepPod{Uid: "stranger"}}})
	a.ack(true)
	a.snapshot(conn)
	if e := h.next(t, "remove"); e.uid != "p2" || e.reason != Gone {
		t.Errorf("removed %q (%v), want p2, gone", e.uid, e.reason)
	}
	h.next(t, "synced")
	up, err := c.DialTCP(t.Context(), "p1", dst, netip.AddrPort{})
	if err != nil {
		t.Fatalf("with the new agent: %v", err)
	}
	up.Close()
}

// waitStock waits until a stock holds n sockets.
func waitStock(t *testing.T, c *Client, uid string, kind api.SocketKind, n int) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		s := c.stock(uid, kind)
		s.mu.Lock()
		have := len(s.free)
		s.mu.Unlock()
		if have >= n {
			return
		}
		<-time.After(time.Millisecond)
	}
	t.Fatalf("stock of %s never reached %d", uid, n)
}

func TestStockGrowsUnderLoad(t *testing.T) {
	a := newAgent(t)
	c, h := start(t, a, func(cfg *Config) { cfg.StockWait = patience })
	conn := a.accept()
	a.addPod(conn, pod("p1"))
	h.next(t, "add").l.Close()
	dst, accepted := server(t)
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			for range 50 {
				up, err := c.DialTCP(t.Context(), "p1", dst, netip.AddrPort{})
				if err != nil {
					t.Error(err)
					return
				}
				(<-accepted).Close()
				up.Close()
			}
		})
	}
	all.Wait()
	s := c.stock("p1", api.SocketKind_TCP4)
	if n := s.want(MaxStock * 2); n > MaxStock {
		t.Errorf("asks for %d more", n)
	}
}

func TestAgentRefusesSockets(t *testing.T) {
	a := newAgent(t)
	a.refuse = "out of descriptors"
	c, h := start(t, a, nil)
	conn := a.accept()
	a.addPod(conn, pod("p1"))
	h.next(t, "add").l.Close()
	dst, _ := server(t)
	if _, err := c.DialTCP(t.Context(), "p1", dst, netip.AddrPort{}); !errors.Is(err, ErrNoSockets) {
		t.Errorf("got %v, want %v", err, ErrNoSockets)
	}
	a.mu.Lock()
	a.refuse, a.mislay = "", true
	a.mu.Unlock()
	if _, err := c.DialTCP(t.Context(), "p1", dst, netip.AddrPort{}); !errors.Is(err, ErrNoSockets) {
		t.Errorf("a socket of another pod was used: %v", err)
	}
	a.mu.Lock()
	a.mislay = false
	a.mu.Unlock()
	waitStock(t, c, "p1", api.SocketKind_TCP4, 1) // asked again by itself
}

func TestPodLeavesAndReturns(t *testing.T) {
	a := newAgent(t)
	c, h := start(t, a, nil)
	conn := a.accept()
	a.expect((*api.ToAgent).GetReturnDone, "return done")
	a.addPod(conn, pod("p1"))
	a.ack(false)
	old := h.next(t, "add")
	old.l.Close()
	a.send(conn, &api.ToZtunnel{Message: &api.ToZtunnel_DelPod{DelPod: &api.DelPod{Uid: "p1", Reason: api.DelPod_LEFT}}})
	a.ack(false)
	if e := h.next(t, "remove"); e.reason != Left {
		t.Errorf("reason %v, want left", e.reason)
	}
	dst, _ := server(t)
	if up, err := c.DialTCP(t.Context(), "p1", dst, netip.AddrPort{}); err != nil {
		t.Errorf("what is accepted must finish: %v", err)
	} else {
		up.Close()
	}
	a.addPod(conn, pod("p1"))
	a.ack(false)
	back := h.next(t, "add")
	back.l.Close()
	c.Release(old.pod)
	if up, err := c.DialTCP(t.Context(), "p1", dst, netip.AddrPort{}); err != nil {
		t.Errorf("the old pod's release took the new one's sockets: %v", err)
	} else {
		up.Close()
	}
	a.send(conn, &api.ToZtunnel{Message: &api.ToZtunnel_DelPod{DelPod: &api.DelPod{Uid: "p1", Reason: api.DelPod_GONE}}})
	a.ack(false)
	h.next(t, "remove")
	if _, err := c.DialTCP(t.Context(), "p1", dst, netip.AddrPort{}); !errors.Is(err, ErrUnknownPod) {
		t.Errorf("got %v, want %v", err, ErrUnknownPod)
	}
	a.send(conn, &api.ToZtunnel{Message: &api.ToZtunnel_DelPod{DelPod: &api.DelPod{Uid: "p1", Reason: api.DelPod_GONE}}})
	a.ack(false)
}

func TestHandlerRefusesPod(t *testing.T) {
	a := newAgent(t)
	c, h := start(t, a, func(cfg *Config) { cfg.Handler.(*recorder).refuse = errors.New("too many pods") })
	conn := a.accept()
	a.expect((*api.ToAgent).GetReturnDone, "return done")
	a.addPod(conn, pod("p1"))
	a.ack(true)
	if s := c.stock("p1", api.SocketKind_TCP4); s != nil {
		t.Error("a refused pod has a stock")
	}
	_ = h
}

func TestReadyWaitsAndDraining(t *testing.T) {
	a := newAgent(t)
	ready := make(chan struct{})
	c, h := start(t, a, func(cfg *Config) { cfg.Ready = ready })
	conn := a.accept()
	a.expect((*api.ToAgent).GetReturnDone, "return done")
	a.snapshot(conn)
	h.next(t, "synced")
	until := time.Now().Add(time.Minute).Truncate(time.Millisecond)
	a.send(conn, &api.ToZtunnel{Message: &api.ToZtunnel_Drain{Drain: &api.Drain{DeadlineUnixMs: until.UnixMilli()}}})
	a.ack(false) // and not ready: the gate is closed
	if e := h.next(t, "drain"); !e.until.Equal(until) {
		t.Errorf("drain until %v, want %v", e.until, until)
	}
	close(ready)
	a.expect((*api.ToAgent).GetReady, "ready")
	c.Draining()
	a.expect((*api.ToAgent).GetDraining, "draining")
	a.ln.Close()
	conn.Close()
	a.listen()
	a.accept()
	// The next agent learns it too, and is not told ready; returning pods and draining come in either order.
	for range 2 {
		if m := <-a.got; m.GetReturnDone() == nil && m.GetDraining() == nil {
			t.Errorf("got %v", m)
		}
	}
}

func TestRefusedByAgent(t *testing.T) {
	a := newAgent(t)
	_, _ = start(t, a, nil)
	for range 2 { // it tries again
		_ = a.ln.SetDeadline(time.Now().Add(patience))
		u, err := a.ln.AcceptUnix()
		if err != nil {
			t.Fatal(err)
		}
		conn := api.NewConn(u)
		a.send(conn, &api.ToZtunnel{Message: &api.ToZtunnel_Refuse{Refuse: &api.Refuse{Reason: "wrong uid"}}})
		conn.Close()
	}
}
