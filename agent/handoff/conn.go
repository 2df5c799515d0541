package handoff

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/ambit-mesh/ambit/agent/api"
	"github.com/ambit-mesh/ambit/agent/pods"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"
)

// conn is one ztunnel's connection. Its state is guarded by the server's mutex.
type conn struct {
	s        *Server
	wire     *api.Conn
	peer     Peer
	order    uint64 // of arrival
	since    time.Time
	instance string
	build    string
	wake     chan struct{} // has one place: compare again
	requests chan *api.ToAgent
	rate     *rate.Limiter

	returnedAt uint64 // the pass that was the newest when the last listener came back; a later one must end
	returning  bool   // ReturnDone has not come
	synced     bool   // SnapshotSent went out
	ready      bool
	draining   bool
	tellDrain  bool // Drain is to be sent
	known      map[pods.UID]*known
	leaving    map[pods.UID]api.DelPod_Reason // of pods that are known and must be told to be no more
	inFlight   map[uint64]pending
	early      map[uint64]string // acknowledgements that overtook the note of what was sent
}

// known is what a ztunnel knows of a pod.
type known struct {
	told    uint64 // generation; 0: only what it returned
	acked   uint64
	refusal string
	refused time.Time
	wire    *api.Pod // as it returned it
	kinds   []api.ListenerKind
	cookies []uint64
}

type pending struct {
	uid pods.UID
	gen uint64
}

// Rates of a connection's messages: more waits in the kernel.
const (
	messageRate  = 20_000
	messageBurst = 20_000
)

func (s *Server) serve(ctx context.Context, raw *net.UnixConn) {
	// Room for what may be in flight, lest both sides wait for each other to read.
	_ = raw.SetWriteBuffer(1 << 20)
	c := &conn{
		s: s, wire: api.NewConn(raw), since: time.Now(), returning: true,
		wake: make(chan struct{}, 1), requests: make(chan *api.ToAgent, maxRequests), rate: rate.NewLimiter(messageRate, messageBurst),
		known: map[pods.UID]*known{}, leaving: map[pods.UID]api.DelPod_Reason{}, inFlight: map[uint64]pending{}, early: map[uint64]string{},
	}
	defer c.wire.Close()
	// A peer that says nothing must not outlive the server either.
	stop := context.AfterFunc(ctx, func() { c.wire.Close() })
	defer stop()
	if why, err := c.admit(); err != nil {
		s.cfg.Metrics.refusals.WithLabelValues(why).Inc()
		if s.lines.allow(why) {
			s.cfg.Log.Warn("ztunnel refused", "reason", why, "err", err)
		}
		_, _ = c.wire.Send(&api.ToZtunnel{Message: &api.ToZtunnel_Refuse{Refuse: &api.Refuse{Reason: clip(err.Error())}}})
		return
	}
	told := s.lines.allow("connected")
	if told {
		s.cfg.Log.Info("ztunnel connected", "instance", c.instance, "build", c.build, "pid", c.peer.PID)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		<-ctx.Done()
		return c.wire.Close()
	})
	group.Go(func() error {
		defer close(c.requests)
		return c.read(ctx)
	})
	group.Go(func() error { return c.write(ctx) })
	group.Go(c.makeSockets)
	err := group.Wait()
	s.drop(c)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	if told {
		s.cfg.Log.Info("ztunnel disconnected", "instance", c.instance, "pid", c.peer.PID, "err", err)
	}
}

// admit authenticates the peer, hears its Hello and answers. The word names the kind of refusal.
func (c *conn) admit() (why string, err error) {
	if c.peer, err = identify(c.wire); err != nil {
		return "unidentified", err
	}
	if err := c.wire.SetReadDeadline(time.Now().Add(helloTimeout)); err != nil {
		return "protocol", err
	}
	var m api.ToAgent
	fds, err := c.wire.Recv(&m)
	if err != nil {
		return "protocol", fmt.Errorf("hello: %w", err)
	}
	fds.Close()
	// Only now, since closing a connection with something unread would drop our answer.
	if err := c.s.cfg.Allow(c.peer); err != nil {
		return "unauthorized", err
	}
	hello := m.GetHello()
	if hello == nil {
		return "protocol", errors.New("the first message is no hello")
	}
	version, err := api.Negotiate(hello.GetMinVersion(), hello.GetVersion())
	if err != nil {
		return "version", err
	}
	if err := c.wire.SetReadDeadline(time.Time{}); err != nil {
		return "protocol", err
	}
	c.instance, c.build = hello.GetInstance(), hello.GetBuild()
	if err := c.s.enter(c); err != nil {
		return "too_many", err
	}
	welcome := &api.Welcome{Version: version, Node: c.s.cfg.Node}
	if _, err := c.wire.Send(&api.ToZtunnel{Message: &api.ToZtunnel_Welcome{Welcome: welcome}}); err != nil {
		c.s.drop(c)
		return "protocol", err
	}
	return "", nil
}

// enter counts a connection in. One that the same process had before is closed: it is dead, only not yet noticed.
func (s *Server) enter(c *conn) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for old := range s.conns {
		if old.instance == c.instance && old.peer.PID == c.peer.PID && old.peer.Born == c.peer.Born {
			old.wire.Close()
			delete(s.conns, old)
		}
	}
	if len(s.conns) >= maxConns {
		return fmt.Errorf("%d ztunnels are connected already", len(s.conns))
	}
	s.gen++
	c.order = s.gen
	s.conns[c] = true
	s.countLocked()
	return nil
}

func (s *Server) drop(c *conn) {
	s.mu.Lock()
	delete(s.conns, c)
	s.countLocked()
	s.mu.Unlock()
	s.notify()
}

// newerThan orders ztunnels by when their processes began: after a restart of the agent they may connect in any order.
func (c *conn) newerThan(o *conn) bool {
	return cmp.Or(cmp.Compare(c.peer.Born, o.peer.Born), cmp.Compare(c.order, o.order)) > 0
}

func (c *conn) wakeUp() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func (c *conn) stateLocked() string {
	switch {
	case c.draining:
		return "draining"
	case c.ready:
		return "ready"
	case c.synced:
		return "synced"
	case c.returning:
		return "returning"
	default:
		return "waiting"
	}
}

func clip(s string) string { return s[:min(len(s), api.MaxText)] }
