package handoff

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ambit-mesh/ambit/agent/api"
	"github.com/ambit-mesh/ambit/agent/api/apitest"
	"github.com/ambit-mesh/ambit/agent/pods"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// patience bounds what must happen; nothing waits for it when all is well.
const patience = 20 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// node is a running server.
type node struct {
	*Server
	t    *testing.T
	path string
	stop func()
}

func start(t *testing.T, path string, change func(*Config)) *node {
	t.Helper()
	cfg := Config{
		Path: path, UID: os.Getuid(), Node: "n1", Absence: time.Hour, Drain: time.Hour,
		Allow: AllowOne(uint32(os.Getuid()), ""),
		Make: func(pods.UID, api.SocketKind, int) (api.Fds, error) {
			return nil, errors.New("no sockets in this test")
		},
		Reset: func(int, api.ListenerKind) int { return 0 },
		Log:   slog.New(slog.DiscardHandler), Metrics: NewMetrics(prometheus.NewRegistry()),
	}
	if change != nil {
		change(&cfg)
	}
	s := New(cfg)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	n := &node{Server: s, t: t, path: path}
	n.stop = func() {
		cancel()
		if done != nil {
			if err := <-done; err != nil {
				t.Errorf("server: %v", err)
			}
			done = nil
		}
	}
	t.Cleanup(func() { n.stop() })
	return n
}

// pass is a complete pass of the reconcile loop.
func (n *node) pass() { n.End(n.Begin()) }

// await looks whenever something changed.
func (n *node) await(what string, ok func() bool) {
	n.t.Helper()
	limit := time.After(patience)
	for !ok() {
		select {
		case <-n.Changed():
		case <-limit:
			n.t.Fatalf("never: %s", what)
		}
	}
}

// ztunnel is the other end.
type ztunnel struct {
	*api.Conn
	t *testing.T
}

// dial waits for the server to listen.
func dial(t *testing.T, path string) *ztunnel {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		c, err := api.Dial(ctx, path)
		if err == nil {
			t.Cleanup(func() { c.Close() })
			return &ztunnel{c, t}
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
	}
}

func (z *ztunnel) say(m *api.ToAgent, fds ...int) uint64 {
	z.t.Helper()
	seq, err := z.Send(m, fds...)
	if err != nil {
		z.t.Fatal(err)
	}
	return seq
}

func (z *ztunnel) hear() (*api.ToZtunnel, api.Fds) {
	z.t.Helper()
	if err := z.SetReadDeadline(time.Now().Add(patience)); err != nil {
		z.t.Fatal(err)
	}
	var m api.ToZtunnel
	fds, err := z.Recv(&m)
	if err != nil {
		z.t.Fatal(err)
	}
	z.t.Cleanup(func() { fds.Close() })
	return &m, fds
}

func hello(instance string) *api.ToAgent {
	return &api.ToAgent{Message: &api.ToAgent_Hello{Hello: &api.Hello{MinVersion: 1, Version: 1, Instance: instance, Build: "test"}}}
}

func returnDone() *api.ToAgent {
	return &api.ToAgent{Message: &api.ToAgent_ReturnDone{ReturnDone: &api.ReturnDone{}}}
}

func (z *ztunnel) greet(instance string) {
	z.t.Helper()
	z.say(hello(instance))
	if m, _ := z.hear(); m.GetWelcome().GetNode() != "n1" {
		z.t.Fatalf("got %v, want a welcome", m)
	}
}

func (z *ztunnel) ack(m *api.ToZtunnel, refusal string) {
	z.say(&api.ToAgent{Message: &api.ToAgent_Ack{Ack: &api.Ack{Of: m.GetSeq(), Error: refusal}}})
}

// snapshot acknowledges everything up to SnapshotSent and tells it in words, with the listeners that came.
func (z *ztunnel) snapshot() (string, map[string]api.Fds) {
	z.t.Helper()
	var words []string
	listeners := map[string]api.Fds{}
	for {
		m, fds := z.hear()
		switch v := m.GetMessage().(type) {
		case *api.ToZtunnel_SnapshotSent:
			return strings.Join(words, " "), listeners
		case *api.ToZtunnel_AddPod:
			words = append(words, "add:"+v.AddPod.GetPod().GetUid())
			listeners[v.AddPod.GetPod().GetUid()] = fds
		case *api.ToZtunnel_KeepPod:
			words = append(words, "keep:"+v.KeepPod.GetUid())
		case *api.ToZtunnel_DelPod:
			words = append(words, "del:"+v.DelPod.GetUid()+":"+v.DelPod.GetReason().String())
		default:
			z.t.Fatalf("%v in a snapshot", m)
		}
		z.ack(m, "")
	}
}

// listeners are real TCP listeners on loopback, as descriptors.
func listeners(t *testing.T, n int) (api.Fds, []string) {
	t.Helper()
	var fds api.Fds
	var addresses []string
	for range n {
		l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		f, err := l.File()
		if err != nil {
			t.Fatal(err)
		}
		addresses = append(addresses, l.Addr().String())
		l.Close()
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		fds = append(fds, fd)
	}
	return fds, addresses
}

var twoKinds = []api.ListenerKind{api.ListenerKind_OUTBOUND, api.ListenerKind_HBONE}

func pod(uid string) *api.Pod { return &api.Pod{Uid: uid, Name: uid, Namespace: "shop"} }

func path(t *testing.T) string { return filepath.Join(t.TempDir(), "handoff", "handoff.sock") }

func TestAZtunnelGetsPodsAndSockets(t *testing.T) {
	before := apitest.OpenFds(t)
	asked := make(chan int, 1)
	n := start(t, path(t), func(c *Config) {
		c.Make = func(uid pods.UID, kind api.SocketKind, n int) (api.Fds, error) {
			asked <- n
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			return api.Fds{fd}, err
		}
	})
	fds, addresses := listeners(t, 2)
	n.Set(pod("a"), twoKinds, fds)
	z := dial(t, n.path)
	z.greet("z1")
	z.say(returnDone())
	n.await("the end of what is returned", func() bool { return n.Ztunnels()[0].State == "waiting" })
	n.pass()
	words, got := z.snapshot()
	if words != "add:a" || len(got["a"]) != 2 {
		t.Fatalf("snapshot %q with %d listeners", words, len(got["a"]))
	}
	n.await("acknowledged", func() bool { return n.Status("a").Acked })

	// The listener that came is the one that clients reach.
	c, err := net.Dial("tcp", addresses[1])
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.SetNonblock(got["a"][1], false); err != nil {
		t.Fatal(err)
	}
	if accepted, _, err := unix.Accept4(got["a"][1], unix.SOCK_CLOEXEC); err != nil {
		t.Error(err)
	} else {
		unix.Close(accepted)
	}
	c.Close()

	for uid, want := range map[string]int{"a": 1, "nobody": 0} {
		seq := z.say(&api.ToAgent{Message: &api.ToAgent_SocketRequest{SocketRequest: &api.SocketRequest{
			Uid: uid, Kind: api.SocketKind_TCP4, Count: 8,
		}}})
		m, sockets := z.hear()
		if m.GetSockets().GetRequest() != seq || len(sockets) != want || (want == 0) != (m.GetSockets().GetError() != "") {
			t.Errorf("sockets of %s: %v with %d descriptors", uid, m, len(sockets))
		}
	}
	if n := <-asked; n != 8 {
		t.Errorf("asked for %d sockets, want 8", n)
	}

	n.Remove("a", api.DelPod_LEFT)
	m, _ := z.hear()
	if m.GetDelPod().GetUid() != "a" || m.GetDelPod().GetReason() != api.DelPod_LEFT {
		t.Errorf("got %v, want the pod to have left", m)
	}
	z.Close()
	n.await("gone", func() bool { return len(n.Ztunnels()) == 0 })
	n.stop()
	for _, f := range got {
		f.Close()
	}
	got = nil
	t.Cleanup(func() {})                               // descriptors that hear registered are closed above or by then
	if after := apitest.OpenFds(t); after > before+1 { // the socket that was handed out lives until the test ends
		t.Errorf("%d descriptors open, %d before", after, before)
	}
}

func TestWhoMayNotConnect(t *testing.T) {
	self := uint32(os.Getuid())
	cases := map[string]struct {
		allow func(Peer) error
		first *api.ToAgent
		why   string
	}{
		"another uid":    {AllowOne(self+1, ""), hello("z"), "unauthorized"},
		"another cgroup": {AllowOne(self, "/no/such/cgroup"), hello("z"), "unauthorized"},
		"no hello":       {AllowOne(self, ""), returnDone(), "protocol"},
		"other version": {AllowOne(self, ""), &api.ToAgent{Message: &api.ToAgent_Hello{Hello: &api.Hello{
			MinVersion: 7, Version: 9, Instance: "z",
		}}}, "version"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			n := start(t, path(t), func(cfg *Config) { cfg.Allow = c.allow })
			n.Set(pod("a"), nil, nil)
			n.pass()
			z := dial(t, n.path)
			_, _ = z.Send(c.first) // may be too late: the refusal can come first
			m, _ := z.hear()
			if m.GetRefuse().GetReason() == "" {
				t.Errorf("got %v, want a refusal", m)
			}
			if _, err := z.Recv(&api.ToZtunnel{}); !errors.Is(err, io.EOF) && !errors.Is(err, unix.ECONNRESET) {
				t.Errorf("the connection goes on: %v", err)
			}
			if got := testutil.ToFloat64(n.cfg.Metrics.refusals.WithLabelValues(c.why)); got != 1 {
				t.Errorf("%v refusals counted as %s", got, c.why)
			}
		})
	}
}

func TestMisbehaviourEndsTheConnection(t *testing.T) {
	cases := map[string][]*api.ToAgent{
		"hello twice":       {hello("z")},
		"return done twice": {returnDone(), returnDone()},
		"return after done": {returnDone(), {Message: &api.ToAgent_ReturnPod{ReturnPod: &api.ReturnPod{Pod: pod("a")}}}},
		"a pod twice":       {{Message: &api.ToAgent_ReturnPod{ReturnPod: &api.ReturnPod{Pod: pod("a")}}}, {Message: &api.ToAgent_ReturnPod{ReturnPod: &api.ReturnPod{Pod: pod("a")}}}},
		"acks out of nowhere": func() (list []*api.ToAgent) {
			for i := range maxInFlight + 1 {
				list = append(list, &api.ToAgent{Message: &api.ToAgent_Ack{Ack: &api.Ack{Of: uint64(1000 + i)}}})
			}
			return list
		}(),
	}
	n := start(t, path(t), nil)
	for name, messages := range cases {
		z := dial(t, n.path)
		z.greet(name)
		for _, m := range messages {
			_, _ = z.Send(m) // the last may meet a closed connection
		}
		if err := z.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if _, err := z.Recv(&api.ToZtunnel{}); !errors.Is(err, io.EOF) && !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("%s: the connection goes on: %v", name, err)
		}
		z.Close()
	}
}

func TestANewerZtunnelTakesOver(t *testing.T) {
	n := start(t, path(t), nil)
	fds, _ := listeners(t, 2)
	n.Set(pod("a"), twoKinds, fds)
	join := func(instance string) *ztunnel {
		z := dial(t, n.path)
		z.greet(instance)
		z.say(returnDone())
		n.await("returned", func() bool {
			for _, other := range n.Ztunnels() {
				if other.Instance == instance && other.State == "waiting" {
					return true
				}
			}
			return false
		})
		n.pass()
		if words, _ := z.snapshot(); words != "add:a" {
			t.Fatalf("%s: snapshot %q", instance, words)
		}
		return z
	}
	ready := &api.ToAgent{Message: &api.ToAgent_Ready{Ready: &api.Ready{}}}
	older := join("old")
	older.say(ready)
	newer := join("new")
	newer.say(ready)
	m, _ := older.hear()
	if left := time.Until(time.UnixMilli(m.GetDrain().GetDeadlineUnixMs())); left <= 0 || left > time.Hour {
		t.Errorf("got %v, want a drain with a deadline within the hour", m)
	}
	more, _ := listeners(t, 2)
	n.Set(pod("b"), twoKinds, more)
	if m, _ := newer.hear(); m.GetAddPod().GetPod().GetUid() != "b" {
		t.Errorf("the newer ztunnel got %v, want pod b", m)
	}
	n.Remove("a", api.DelPod_GONE)
	if m, _ := older.hear(); m.GetDelPod().GetUid() != "a" {
		t.Errorf("the older ztunnel got %v, want only the end of pod a", m)
	}
}

func TestAnAgentThatStartsAgainGetsTheListenersBack(t *testing.T) {
	where := path(t)
	first := start(t, where, nil)
	for _, uid := range []string{"kept", "changed", "left", "gone", "unsettled"} {
		fds, _ := listeners(t, 2)
		first.Set(pod(uid), twoKinds, fds)
	}
	z := dial(t, where)
	z.greet("z")
	z.say(returnDone())
	first.await("returned", func() bool { return first.Ztunnels()[0].State == "waiting" })
	first.pass()
	_, held := z.snapshot()
	if len(held) != 5 {
		t.Fatalf("%d pods", len(held))
	}
	z.Close()
	first.stop()

	second := start(t, where, nil)
	z = dial(t, where)
	z.greet("z")
	for uid, fds := range held {
		z.say(&api.ToAgent{Message: &api.ToAgent_ReturnPod{ReturnPod: &api.ReturnPod{Pod: pod(uid), Kinds: twoKinds}}}, fds...)
	}
	z.say(returnDone())
	second.await("everything returned", func() bool { return len(second.ReturnedPods()) == 5 })
	second.await("the end of it", func() bool { return second.Ztunnels()[0].State == "waiting" })
	pass := second.Begin()
	for _, uid := range []pods.UID{"kept", "changed"} {
		r, ok := second.Take(uid)
		if !ok {
			t.Fatalf("%s was not returned", uid)
		}
		r.Pod.Dns = uid == "changed"
		second.Set(r.Pod, r.Kinds, r.Fds)
	}
	second.Remove("left", api.DelPod_LEFT)
	second.Remove("gone", api.DelPod_GONE)
	second.End(pass)
	words, again := z.snapshot()
	for _, want := range []string{"keep:kept", "add:changed", "del:gone:GONE", "keep:unsettled"} {
		if !strings.Contains(words, want) {
			t.Errorf("snapshot %q lacks %s", words, want)
		}
	}
	if keep, del := strings.Index(words, "keep:left"), strings.Index(words, "del:left:LEFT"); keep < 0 || del < keep {
		t.Errorf("snapshot %q: a pod that left must be kept first, then leave", words)
	}
	if !sameSockets(cookies(held["changed"]), cookies(again["changed"])) {
		t.Error("the listeners of a changed pod are others than before")
	}
	second.await("acknowledged", func() bool { return second.Status("kept").Acked && second.Status("changed").Acked })
}

func TestARefusedPodIsReported(t *testing.T) {
	n := start(t, path(t), nil)
	n.Set(pod("a"), nil, nil)
	z := dial(t, n.path)
	z.greet("z")
	z.say(returnDone())
	n.await("returned", func() bool { return n.Ztunnels()[0].State == "waiting" })
	n.pass()
	m, _ := z.hear()
	z.ack(m, "no room")
	n.await("the refusal", func() bool { return n.Status("a").Error == "no room" })
	if n.Status("a").Acked {
		t.Error("a refused pod counts as taken")
	}
}

func TestTheSocketIsTheOwnersAlone(t *testing.T) {
	n := start(t, path(t), nil)
	dial(t, n.path)
	for _, p := range []string{filepath.Dir(n.path), n.path} {
		st, err := os.Stat(p)
		if err != nil {
			t.Fatal(err)
		}
		if st.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", p, st.Mode())
		}
	}
}
