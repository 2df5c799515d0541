package sockets

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ambit-mesh/ambit/agent/api"
)

// stock holds one pod's ready-made sockets of one kind. Sockets leave it in the order they came.
type stock struct {
	uid     string
	kind    api.SocketKind
	floor   int
	metrics *kindMetrics
	low     func(*stock) // tells the refiller that more are needed; called without the lock

	mu      sync.Mutex
	free    []int
	waiters []chan int // one descriptor, or closed when the stock is
	closed  bool
	target  int
	asked   int // requested from the agent and not answered yet
	queued  bool
	refused error // why the agent's last answer brought nothing
	taken   uint64
	starved bool
	rate    float64
}

// tcp tells whether the sockets are for connections.
func tcp(kind api.SocketKind) bool {
	return kind == api.SocketKind_TCP4 || kind == api.SocketKind_TCP6
}

func newStock(uid string, kind api.SocketKind, m *kindMetrics, low func(*stock)) *stock {
	floor := MinUDPStock
	if tcp(kind) {
		floor = MinTCPStock
	}
	return &stock{uid: uid, kind: kind, floor: floor, target: floor, metrics: m, low: low}
}

// take gives a socket, waiting for one at most until wait is over or ctx ends. The caller owns it.
func (s *stock) take(ctx context.Context, wait time.Duration) (int, error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return -1, ErrUnknownPod
	}
	s.taken++
	if n := len(s.free); n > 0 && len(s.waiters) == 0 {
		fd := s.free[0]
		s.free = s.free[1:]
		short := n-1+s.asked <= s.target/2
		s.mu.Unlock()
		s.metrics.stocked.Dec()
		s.metrics.taken.Inc()
		if short {
			s.low(s)
		}
		return fd, nil
	}
	mine := make(chan int, 1)
	s.waiters = append(s.waiters, mine)
	s.starved = true
	s.target = min(max(2*s.target, s.floor), MaxStock) // the next sizing brings it back within the budget
	s.mu.Unlock()
	s.metrics.waits.Inc()
	s.low(s)
	return s.await(ctx, wait, mine)
}

func (s *stock) await(ctx context.Context, wait time.Duration, mine chan int) (int, error) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	var err error = ErrNoSockets
	select {
	case fd, ok := <-mine:
		if !ok {
			return -1, ErrUnknownPod
		}
		s.metrics.taken.Inc()
		return fd, nil
	case <-timer.C:
		s.metrics.refused.Inc()
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	s.mu.Lock()
	for i, w := range s.waiters {
		if w == mine {
			s.waiters = append(s.waiters[:i], s.waiters[i+1:]...)
			break
		}
	}
	if s.refused != nil && err == ErrNoSockets {
		err = &refusedError{s.refused}
	}
	s.mu.Unlock()
	select {
	case fd, ok := <-mine: // it came at the last moment
		if ok {
			s.metrics.taken.Inc()
			return fd, nil
		}
	default:
	}
	return -1, err
}

// refusedError is ErrNoSockets with the agent's words.
type refusedError struct{ agent error }

func (e *refusedError) Error() string   { return ErrNoSockets.Error() + ": " + e.agent.Error() }
func (e *refusedError) Unwrap() []error { return []error{ErrNoSockets, e.agent} }

// put brings the answer to a request for asked sockets. It owns fds.
func (s *stock) put(asked int, fds api.Fds, refused error) {
	for _, fd := range fds {
		// A blocking socket would stall a thread, no more; connect(2) is what shows a socket that is no good.
		_ = unix.SetNonblock(fd, true)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = max(s.asked-asked, 0)
	s.refused = refused
	if s.closed {
		fds.Close()
		return
	}
	for len(s.waiters) > 0 && len(fds) > 0 {
		s.waiters[0] <- fds[0]
		s.waiters, fds = s.waiters[1:], fds[1:]
	}
	s.free = append(s.free, fds...)
	s.metrics.stocked.Add(float64(len(fds)))
}

// want answers how many sockets to ask the agent for next, at most batch, and counts them as asked for. At 0 s is out of the
// refiller's line.
func (s *stock) want(batch int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := min(s.target+len(s.waiters)-len(s.free)-s.asked, batch)
	if n <= 0 || s.closed {
		s.queued = false
		return 0
	}
	s.asked += n
	return n
}

// enqueue reports whether s is not yet in line for refilling.
func (s *stock) enqueue() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := !s.queued && !s.closed
	s.queued = s.queued || first
	return first
}

// forget drops what was asked for: the agent that was asked is gone.
func (s *stock) forget() {
	s.mu.Lock()
	s.asked, s.queued = 0, false
	s.mu.Unlock()
}

// demand closes a period of the given length and answers what sizing needs to know.
func (s *stock) demand(seconds float64) Demand {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rate = NextRate(s.rate, s.taken, seconds)
	d := Demand{Floor: s.floor, Target: s.target, Rate: s.rate, Starved: s.starved && len(s.waiters) > 0}
	s.taken, s.starved = 0, false
	return d
}

// len is how many there are.
func (s *stock) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.free)
}

// resize sets the target and lets go of what is far above it.
func (s *stock) resize(target int) {
	s.mu.Lock()
	s.target = target
	var surplus api.Fds
	if most := target + target/4; len(s.free) > most {
		surplus = append(surplus, s.free[:len(s.free)-target]...)
		s.free = append([]int(nil), s.free[len(s.free)-target:]...)
	}
	short := len(s.free)+s.asked <= target/2
	s.mu.Unlock()
	if len(surplus) > 0 {
		surplus.Close()
		s.metrics.stocked.Sub(float64(len(surplus)))
	}
	if short {
		s.low(s)
	}
}

// close ends the stock: waiters fail, sockets are closed, which also lets the pod's network namespace go.
func (s *stock) close() {
	s.mu.Lock()
	free, waiters := s.free, s.waiters
	s.free, s.waiters, s.closed = nil, nil, true
	s.mu.Unlock()
	for _, w := range waiters {
		close(w)
	}
	api.Fds(free).Close()
	s.metrics.stocked.Sub(float64(len(free)))
}
