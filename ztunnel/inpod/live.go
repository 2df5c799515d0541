package inpod

import (
	"errors"
	"sync"

	"github.com/ambit-mesh/ambit/ztunnel/policy"
)

// Cause says why a connection is cut from outside.
type Cause uint8

// The causes.
const (
	CauseNone    Cause = iota
	CausePolicy        // policy denies it now
	CausePodGone       // its pod does not exist any more
	CauseDrain         // the deadline of a drain has passed
	CauseStopped       // the ztunnel ends
)

func (c Cause) String() string {
	return [...]string{"", "policy change", "pod gone", "drain deadline", "ztunnel stopped"}[c]
}

// Connection is a live connection as seen from outside.
type Connection interface {
	// Judged is what policy allowed; the zero value for a connection that policy has no say in here.
	Judged() policy.Conn
	// Cut ends the connection with a reset, soon. It may be called at any time, more than once, and does not block. The
	// decision is that of a CausePolicy.
	Cut(why Cause, d policy.Decision)
	// Rest makes it wait with less memory if it is idle, and reports whether it did; see Pods.Rest.
	Rest() bool
	// View describes it for people.
	View() View
}

// View describes a connection for people.
type View struct {
	Inbound                 bool
	Client, Meant, Dial     string // who, where to, next hop
	Protocol, Plan, Peer    string
	Reason, Policy, Service string
	Snapshot                uint64
}

// Tunnel is something that carries connections and can be told that there shall be no more of them.
type Tunnel interface{ Drain() }

// Errors of Enter.
var (
	ErrTooMany = errors.New("too many connections of this pod")
	ErrEnded   = errors.New("the pod has ended")
)

// set is the live connections of a pod.
type set struct {
	idle sync.WaitGroup // counts entered connections

	mu      sync.Mutex
	limit   int
	open    int
	drained bool
	ended   Cause // of a set that was cut
	conns   map[Connection]struct{}
	tunnels map[Tunnel]struct{}
	judged  int // connections that policy has a say in

	verdicts verdicts // of the judging goroutine
}

func (s *set) init(limit int) {
	s.limit, s.conns, s.tunnels = limit, map[Connection]struct{}{}, map[Tunnel]struct{}{}
}

// Enter counts a connection or stream against the pod's limit; Leave must follow. After Leave nothing of it is left.
func (p *Pod) Enter() error {
	s := &p.live
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended != CauseNone {
		return ErrEnded
	}
	if s.open >= s.limit {
		p.owner.metrics.limited.WithLabelValues("connections").Inc()
		return ErrTooMany
	}
	s.open++
	s.idle.Add(1)
	return nil
}

// Leave ends what Enter began.
func (p *Pod) Leave() {
	s := &p.live
	s.mu.Lock()
	s.open--
	s.mu.Unlock()
	s.idle.Done()
}

// Track makes a connection known, so that it can be judged again and cut. Do so before the first judgement, so that no
// change falls in between. On a pod that has ended the connection is cut at once.
func (p *Pod) Track(c Connection) {
	s := &p.live
	s.mu.Lock()
	why := s.ended
	if why == CauseNone {
		s.conns[c] = struct{}{}
		if c.Judged().Workload != "" {
			s.judged++
		}
	}
	s.mu.Unlock()
	if why != CauseNone {
		c.Cut(why, policy.Decision{})
	}
}

// Untrack forgets a connection.
func (p *Pod) Untrack(c Connection) {
	s := &p.live
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.conns[c]; !ok {
		return
	}
	delete(s.conns, c)
	if c.Judged().Workload != "" {
		s.judged--
	}
}

// TrackTunnel makes a tunnel known, so that it can be drained; at once if the pod drains already.
func (p *Pod) TrackTunnel(t Tunnel) {
	s := &p.live
	s.mu.Lock()
	s.tunnels[t] = struct{}{}
	drained := s.drained
	s.mu.Unlock()
	if drained {
		t.Drain()
	}
}

// UntrackTunnel forgets a tunnel.
func (p *Pod) UntrackTunnel(t Tunnel) {
	p.live.mu.Lock()
	defer p.live.mu.Unlock()
	delete(p.live.tunnels, t)
}

// drain tells the tunnels that there will be no more connections.
func (s *set) drain() {
	s.mu.Lock()
	s.drained = true
	tunnels := make([]Tunnel, 0, len(s.tunnels))
	for t := range s.tunnels {
		tunnels = append(tunnels, t)
	}
	s.mu.Unlock()
	for _, t := range tunnels {
		t.Drain()
	}
}

// cut ends every connection, also those that come later.
func (s *set) cut(why Cause) {
	s.mu.Lock()
	if why == CauseNone { // everything has ended by itself
		why = CauseStopped
	}
	s.ended = why
	s.mu.Unlock()
	for _, c := range s.list(false) {
		c.Cut(why, policy.Decision{})
	}
}

// list is a copy of what there is, or of what policy has a say in.
func (s *set) list(judged bool) []Connection {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.conns)
	if judged {
		if n = s.judged; n == 0 {
			return nil
		}
	}
	list := make([]Connection, 0, n)
	for c := range s.conns {
		if !judged || c.Judged().Workload != "" {
			list = append(list, c)
		}
	}
	return list
}
