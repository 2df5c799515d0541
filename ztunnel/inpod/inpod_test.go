package inpod

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/ambit-mesh/ambit/ztunnel/policy"
	"github.com/ambit-mesh/ambit/ztunnel/shift"
	"github.com/ambit-mesh/ambit/ztunnel/sockets"
	"github.com/ambit-mesh/ambit/ztunnel/state"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// scripted is a listener that answers Accept from a list, and then waits to be closed.
type scripted struct {
	answers chan error // nil: a connection
	closed  chan struct{}
	once    sync.Once
	asked   atomic.Int32
}

func newScripted(answers ...error) *scripted {
	s := &scripted{answers: make(chan error, len(answers)), closed: make(chan struct{})}
	for _, a := range answers {
		s.answers <- a
	}
	return s
}

func (s *scripted) Accept() (sockets.Accepted, error) {
	s.asked.Add(1)
	select {
	case err := <-s.answers:
		return sockets.Accepted{Conn: &net.TCPConn{}}, err
	default:
	}
	<-s.closed
	return sockets.Accepted{}, net.ErrClosed
}

func (s *scripted) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

// fake is a live connection.
type fake struct {
	conn policy.Conn
	cut  chan Cause
}

func newFake(conn policy.Conn) *fake { return &fake{conn: conn, cut: make(chan Cause, 8)} }

func (f *fake) Judged() policy.Conn              { return f.conn }
func (f *fake) Cut(why Cause, _ policy.Decision) { f.cut <- why }
func (f *fake) View() View                       { return View{} }
func (f *fake) Rest() bool                       { return false }

// expect sees why it was cut; CauseNone is that it lives.
func (f *fake) expect(t *testing.T, want Cause) {
	t.Helper()
	got := CauseNone
	select {
	case got = <-f.cut:
	default:
	}
	if got != want {
		t.Errorf("cut by %q, want %q", got, want)
	}
}

func (f *fake) alive(t *testing.T) {
	t.Helper()
	f.expect(t, CauseNone)
}

func newPods(t *testing.T, store *state.Store, h Handlers, l Limits) (*Pods, context.CancelFunc) {
	t.Helper()
	ps := New(Config{Handlers: h, Store: store, Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(), Limits: l})
	ctx, cancel := context.WithCancel(t.Context())
	go ps.Run(ctx)
	return ps, func() {
		cancel()
		<-ps.Over()
	}
}

func synced() *state.Store {
	s := state.NewStore(state.Config{})
	s.Apply(&state.Update{Synced: state.TypesAll})
	return s
}

var cart = &sockets.Pod{UID: "u1", Name: "cart", Namespace: "shop", ServiceAccount: "cart"}

// Out of descriptors, accepting pauses longer and longer instead of spinning, and goes on when there are some again.
func TestAcceptBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var served atomic.Int32
		answers := make([]error, 20)
		for i := range answers {
			answers[i] = syscall.EMFILE
		}
		l := newScripted(append(answers, nil)...)
		ps, stop := newPods(t, synced(), Handlers{Outbound: func(context.Context, *Pod, sockets.Accepted) shift.Job { served.Add(1); return nil }}, Limits{})
		if err := ps.Add(cart, sockets.Listeners{Outbound: l}); err != nil {
			t.Fatal(err)
		}
		<-time.After(500 * time.Millisecond)
		synctest.Wait()
		if n := l.asked.Load(); n > 10 {
			t.Errorf("asked %d times in half a second", n)
		}
		<-time.After(20 * time.Second)
		synctest.Wait()
		if served.Load() != 1 {
			t.Errorf("%d connections served, want 1", served.Load())
		}
		if n := testutil.ToFloat64(ps.metrics.acceptErrors.WithLabelValues("outbound")); n != 20 {
			t.Errorf("%v errors counted, want 20", n)
		}
		stop()
	})
}

// Before the first synchronisation connections wait in the backlog, but not for ever.
func TestAcceptWaitsForSync(t *testing.T) {
	for _, sync := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			store := state.NewStore(state.Config{})
			l := newScripted()
			ps, stop := newPods(t, store, Handlers{Outbound: func(context.Context, *Pod, sockets.Accepted) shift.Job { return nil }}, Limits{})
			if err := ps.Add(cart, sockets.Listeners{Outbound: l}); err != nil {
				t.Fatal(err)
			}
			<-time.After(4 * time.Second)
			synctest.Wait()
			if l.asked.Load() != 0 {
				t.Error("accepts before anything is known")
			}
			if sync {
				store.Apply(&state.Update{Synced: state.TypesAll})
			} else {
				<-time.After(2 * time.Second)
			}
			synctest.Wait()
			if l.asked.Load() == 0 {
				t.Error("does not accept")
			}
			stop()
		})
	}
}

func TestConnectionLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newScripted(nil, nil, nil)
		var served atomic.Int32
		ps, stop := newPods(t, synced(), Handlers{Outbound: func(ctx context.Context, _ *Pod, _ sockets.Accepted) shift.Job {
			served.Add(1)
			<-ctx.Done()
			return nil
		}}, Limits{Connections: 2})
		if err := ps.Add(cart, sockets.Listeners{Outbound: l}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if served.Load() != 2 || ps.Open() != 2 {
			t.Errorf("%d served, %d open, want 2", served.Load(), ps.Open())
		}
		if n := testutil.ToFloat64(ps.metrics.limited.WithLabelValues("connections")); n != 1 {
			t.Errorf("%v counted, want 1", n)
		}
		stop()
	})
}

// A bug in serving one connection loses that connection.
func TestPanicIsContained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newScripted(nil, nil)
		ps, stop := newPods(t, synced(), Handlers{Outbound: func(context.Context, *Pod, sockets.Accepted) shift.Job { panic("bug") }}, Limits{})
		if err := ps.Add(cart, sockets.Listeners{Outbound: l}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if n := testutil.ToFloat64(ps.metrics.panics); n != 2 || ps.Open() != 0 {
			t.Errorf("%v bugs counted, %d open", n, ps.Open())
		}
		stop()
	})
}

func TestHandshakesMakeRoom(t *testing.T) {
	p := newPod(New(Config{Metrics: prometheus.NewRegistry(), Limits: Limits{Handshakes: 2}}), cart, sockets.Listeners{})
	var evicted []int
	begin := func(i int) func() { return p.Handshake(func() { evicted = append(evicted, i) }) }
	one, two := begin(1), begin(2)
	two()
	three := begin(3)
	if len(evicted) != 0 {
		t.Errorf("evicted %v", evicted)
	}
	begin(4)
	if len(evicted) != 1 || evicted[0] != 1 {
		t.Errorf("evicted %v, want the oldest", evicted)
	}
	one() // it learns late; that frees nothing
	begin(5)
	if len(evicted) != 2 || evicted[1] != 3 {
		t.Errorf("evicted %v", evicted)
	}
	three()
}

// mesh is a store with pod cart and policies.
func mesh(policies ...*state.Policy) (*state.Store, *state.Workload) {
	w := &state.Workload{
		UID: "w1", Name: "cart", Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.2")},
		Profile: &state.Profile{Namespace: "shop", ServiceAccount: "cart", TrustDomain: "cluster.local"}, Place: &state.Place{},
	}
	s := state.NewStore(state.Config{})
	s.Apply(&state.Update{Workloads: []*state.Workload{w}, Policies: policies, Synced: state.TypesAll})
	return s, w
}

func denyPort(name string, port uint16) *state.Policy {
	return &state.Policy{
		Key: state.Key{Namespace: "shop", Name: name}, Scope: state.ScopeNamespace, Action: state.Deny,
		Rules: []state.Rule{{Clauses: []state.Clause{{Matches: []state.Match{{DestinationPorts: []uint16{port}}}}}}},
	}
}

func conn(port uint16) policy.Conn {
	return policy.Conn{Workload: "w1", Source: netip.MustParseAddrPort("10.0.0.9:1"), Destination: netip.AddrPortFrom(netip.MustParseAddr("10.0.0.2"), port)}
}

func TestJudgedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, w := mesh()
		ps, stop := newPods(t, store, Handlers{}, Limits{})
		if err := ps.Add(cart, sockets.Listeners{}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		p := ps.Served()[0]
		http, redis, outbound := newFake(conn(80)), newFake(conn(6379)), newFake(policy.Conn{})
		for _, c := range []*fake{http, redis, outbound} {
			p.Track(c)
		}

		store.Apply(&state.Update{Policies: []*state.Policy{denyPort("redis", 6379)}})
		synctest.Wait()
		redis.expect(t, CausePolicy)
		http.alive(t)
		p.Untrack(redis)

		// What does not concern the pod costs no judgement.
		before := testutil.ToFloat64(ps.metrics.judged)
		other := denyPort("elsewhere", 80)
		other.Key.Namespace = "bank"
		store.Apply(&state.Update{Policies: []*state.Policy{other}})
		synctest.Wait()
		if after := testutil.ToFloat64(ps.metrics.judged); after != before {
			t.Errorf("%v judgements for a policy of another namespace", after-before)
		}
		http.alive(t)

		// Attached to the workload, and not there: five seconds.
		change := *w
		profile := *w.Profile
		profile.Policies = []state.Key{{Namespace: "shop", Name: "late"}}
		change.Profile = &profile
		store.Apply(&state.Update{Workloads: []*state.Workload{&change}})
		<-time.After(pendingLimit - time.Second)
		synctest.Wait()
		http.alive(t)
		<-time.After(2 * time.Second)
		synctest.Wait()
		http.expect(t, CausePolicy)
		p.Untrack(http)
		outbound.alive(t)

		late := newFake(conn(80))
		ps.Remove("u1", sockets.Gone)
		synctest.Wait()
		outbound.expect(t, CausePodGone)
		p.Track(late)
		late.expect(t, CausePodGone)
		if err := p.Enter(); !errors.Is(err, ErrEnded) {
			t.Errorf("a pod that is gone: %v", err)
		}
		stop()
	})
}

type drained struct{ n int }

func (d *drained) Drain() { d.n++ }

func TestTunnelsAreDrained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ps, stop := newPods(t, synced(), Handlers{}, Limits{})
		if err := ps.Add(cart, sockets.Listeners{}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		p := ps.Served()[0]
		if err := p.Enter(); err != nil { // a tunnel is a connection
			t.Fatal(err)
		}
		before, gone, after := new(drained), new(drained), new(drained)
		p.TrackTunnel(before)
		p.TrackTunnel(gone)
		p.UntrackTunnel(gone)
		ps.Drain(time.Time{})
		synctest.Wait()
		p.TrackTunnel(after)
		if before.n != 1 || gone.n != 0 || after.n != 1 {
			t.Errorf("drained %d, %d, %d times", before.n, gone.n, after.n)
		}
		select {
		case <-ps.Over():
			t.Error("over with a connection open")
		default:
		}
		p.Leave()
		<-ps.Over()
		stop()
	})
}
