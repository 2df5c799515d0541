package sockets

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"github.com/ambit-mesh/ambit/agent/api"
)

// patience is how long a test waits for what must happen.
const patience = 10 * time.Second

// agent plays the node agent over the real protocol, in the process's own network namespace.
type agent struct {
	t    *testing.T
	path string
	ln   *net.UnixListener

	mu     sync.Mutex
	refuse string // answer to every SocketRequest
	mislay bool   // answer for another pod
	asked  int

	got chan *api.ToAgent // everything but SocketRequests
	fds chan api.Fds      // of ReturnPods
}

func newAgent(t *testing.T) *agent {
	a := &agent{t: t, path: filepath.Join(t.TempDir(), "handoff.sock"), got: make(chan *api.ToAgent, 64), fds: make(chan api.Fds, 64)}
	a.listen()
	return a
}

func (a *agent) listen() {
	ln, err := net.ListenUnix(api.Network, &net.UnixAddr{Name: a.path, Net: api.Network})
	if err != nil {
		a.t.Fatal(err)
	}
	a.ln = ln
}

// accept takes the client's connection and says welcome.
func (a *agent) accept() *api.Conn {
	a.t.Helper()
	_ = a.ln.SetDeadline(time.Now().Add(patience))
	u, err := a.ln.AcceptUnix()
	if err != nil {
		a.t.Fatal(err)
	}
	conn := api.NewConn(u)
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.serve(conn)
	}()
	a.t.Cleanup(func() { conn.Close(); <-done })
	a.expect((*api.ToAgent).GetHello, "hello")
	a.send(conn, &api.ToZtunnel{Message: &api.ToZtunnel_Welcome{Welcome: &api.Welcome{Version: api.Version, Node: "n1"}}})
	return conn
}

func (a *agent) serve(conn *api.Conn) {
	for {
		m := new(api.ToAgent)
		fds, err := conn.Recv(m)
		if err != nil {
			return
		}
		switch v := m.GetMessage().(type) {
		case *api.ToAgent_SocketRequest:
			a.answer(conn, m.GetSeq(), v.SocketRequest)
		case *api.ToAgent_ReturnPod:
			a.fds <- fds
			a.got <- m
		default:
			a.got <- m
		}
	}
}

func (a *agent) answer(conn *api.Conn, seq uint64, r *api.SocketRequest) {
	a.mu.Lock()
	m := &api.Sockets{Request: seq, Uid: r.GetUid(), Kind: r.GetKind(), Error: a.refuse}
	if a.mislay {
		m.Uid = "somebody-else"
	}
	a.asked += int(r.GetCount())
	a.mu.Unlock()
	var fds api.Fds
	if m.GetError() == "" {
		family, kind := unix.AF_INET, unix.SOCK_STREAM
		if r.GetKind() == api.SocketKind_TCP6 || r.GetKind() == api.SocketKind_UDP6 {
			family = unix.AF_INET6
		}
		if !tcp(r.GetKind()) {
			kind = unix.SOCK_DGRAM
		}
		for range r.GetCount() {
			fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				a.t.Error(err)
				return
			}
			fds = append(fds, fd)
		}
		m.Count = uint32(len(fds))
	}
	_, _ = conn.Send(&api.ToZtunnel{Message: &api.ToZtunnel_Sockets{Sockets: m}}, fds...)
	fds.Close()
}

func (a *agent) send(conn *api.Conn, m *api.ToZtunnel, fds ...int) {
	a.t.Helper()
	if _, err := conn.Send(m, fds...); err != nil {
		a.t.Fatal(err)
	}
}

// expect waits for the next message and fails unless get finds it to be the one.
func (a *agent) expect(get any, what string) *api.ToAgent {
	a.t.Helper()
	select {
	case m := <-a.got:
		ok := false
		switch get := get.(type) {
		case func(*api.ToAgent) *api.Hello:
			ok = get(m) != nil
		case func(*api.ToAgent) *api.ReturnPod:
			ok = get(m) != nil
		case func(*api.ToAgent) *api.ReturnDone:
			ok = get(m) != nil
		case func(*api.ToAgent) *api.Ack:
			ok = get(m) != nil
		case func(*api.ToAgent) *api.Ready:
			ok = get(m) != nil
		case func(*api.ToAgent) *api.Draining:
			ok = get(m) != nil
		}
		if !ok {
			a.t.Fatalf("got %v, want %s", m, what)
		}
		return m
	case <-time.After(patience):
		a.t.Fatalf("no %s", what)
		return nil
	}
}

// ack expects the next message to acknowledge without (or with) an error.
func (a *agent) ack(failed bool) {
	a.t.Helper()
	if m := a.expect((*api.ToAgent).GetAck, "ack"); (m.GetAck().GetError() != "") != failed {
		a.t.Fatalf("acknowledged with %q", m.GetAck().GetError())
	}
}

func pod(uid string) *api.Pod {
	return &api.Pod{Uid: uid, Name: uid, Namespace: "shop", ServiceAccount: "cart", Addresses: [][]byte{{127, 0, 0, 1}}, NetnsCookie: 7}
}

// addPod brings a pod with all its listeners and answers the address of the outbound one.
func (a *agent) addPod(conn *api.Conn, p *api.Pod) *net.TCPAddr {
	a.t.Helper()
	kinds := []api.ListenerKind{api.ListenerKind_OUTBOUND, api.ListenerKind_INBOUND, api.ListenerKind_HBONE, api.ListenerKind_DNS_TCP}
	var fds api.Fds
	var first *net.TCPAddr
	for range kinds {
		l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			a.t.Fatal(err)
		}
		if first == nil {
			first = l.Addr().(*net.TCPAddr)
		}
		fds = append(fds, dupOf(a.t, l))
		l.Close()
	}
	u, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		a.t.Fatal(err)
	}
	fds, kinds = append(fds, dupOf(a.t, u)), append(kinds, api.ListenerKind_DNS_UDP)
	u.Close()
	a.send(conn, &api.ToZtunnel{Message: &api.ToZtunnel_AddPod{AddPod: &api.AddPod{Pod: p, Kinds: kinds}}}, fds...)
	fds.Close()
	return first
}

func dupOf(t *testing.T, c interface{ File() (*os.File, error) }) int {
	t.Helper()
	f, err := c.File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	dup, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return dup
}

func (a *agent) snapshot(conn *api.Conn) {
	a.t.Helper()
	a.send(conn, &api.ToZtunnel{Message: &api.ToZtunnel_SnapshotSent{SnapshotSent: &api.SnapshotSent{}}})
}

// recorder is a Handler that says what it was told.
type recorder struct {
	events chan event
	refuse error
}

type event struct {
	what   string
	pod    *Pod
	l      Listeners
	uid    string
	reason Reason
	until  time.Time
}

func (r *recorder) Add(p *Pod, l Listeners) error {
	if r.refuse != nil {
		l.Close()
		return r.refuse
	}
	r.events <- event{what: "add", pod: p, l: l}
	return nil
}

func (r *recorder) Remove(uid string, reason Reason) {
	r.events <- event{what: "remove", uid: uid, reason: reason}
}
func (r *recorder) Synced()               { r.events <- event{what: "synced"} }
func (r *recorder) Drain(until time.Time) { r.events <- event{what: "drain", until: until} }

func (r *recorder) next(t *testing.T, what string) event {
	t.Helper()
	select {
	case e := <-r.events:
		if e.what != what {
			t.Fatalf("handler was told %q, want %q", e.what, what)
		}
		return e
	case <-time.After(patience):
		t.Fatalf("handler was not told %q", what)
		return event{}
	}
}

// start runs a client against a until the test ends.
func start(t *testing.T, a *agent, change func(*Config)) (*Client, *recorder) {
	t.Helper()
	r := &recorder{events: make(chan event, 64)}
	cfg := Config{
		Path: a.path, Instance: "z1", Handler: r, Metrics: prometheus.NewRegistry(),
		Log: slog.New(slog.DiscardHandler), StockWait: 100 * time.Millisecond,
	}
	if change != nil {
		change(&cfg)
	}
	c := New(cfg)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("run: %v", err)
		}
	})
	return c, r
}
