// Package inpod answers: which pods of this node are served right now, and what becomes of their connections when a pod, a
// policy or this process changes? It starts a pod's accept loops when the agent brings its listeners, stops them in two
// stages, bounds what one pod may take, and knows every live connection, so that those which policy now denies can be
// closed. It does not know what a connection is for: inbound, outbound and dns do, as Handlers. It opens no sockets.
//
//	            Add                    Remove(left), Drain, Add again
//	(none) -----------> serving --------------------------------------> draining --+-- last connection ends --> (none)
//	                       |                                               |       +-- deadline ---> cut -----^
//	                       +------------- Remove(gone), Run ends ----------+--> cut: connections are reset ---^
//
// Pods implements sockets.Handler. A Pod's exported methods are safe for concurrent use.
package inpod

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ambit-mesh/ambit/ztunnel/shift"
	"github.com/ambit-mesh/ambit/ztunnel/sockets"
	"github.com/ambit-mesh/ambit/ztunnel/state"
)

// Handler serves one connection, owns it, and returns when it has ended and everything it started has, or else the job that is
// left: at the latest soon after ctx, or after the connection was cut, that ends too. Shifts guard themselves.
type Handler func(ctx context.Context, p *Pod, a sockets.Accepted) shift.Job

// Handlers serve what a pod's listeners accept. DNS serves the pod's sockets, and returns soon after ctx.
type Handlers struct {
	Outbound  Handler
	Plaintext Handler
	Tunnel    Handler
	DNS       func(ctx context.Context, p *Pod, udp *net.UDPConn, tcp net.Listener)
	// Attend runs for as long as the pod has, or may have, connections. May be nil.
	Attend func(ctx context.Context, p *Pod)
	// Ended is told when nothing of the pod is left. May be nil.
	Ended func(p *Pod)
}

// Config is what Pods need.
type Config struct {
	Handlers Handlers
	Store    *state.Store
	Log      *slog.Logger
	Metrics  prometheus.Registerer
	Limits   Limits
	// Synced is called when the agent has named every pod. May be nil.
	Synced func()
	// Drain is called when the agent says that a newer ztunnel serves; the owner then calls Pods.Drain. May be nil.
	Drain func(deadline time.Time)
}

// Limits bound what one pod may take. Zero values mean the defaults.
type Limits struct {
	Connections int // TCP connections and streams at a time (50,000)
	Handshakes  int // TLS handshakes under way at a time (1,024)
	// AcceptDelay is how long a new pod waits for the first synchronisation before it accepts: connections wait in the
	// backlog, or are accepted by an older ztunnel that knows the mesh (5 s).
	AcceptDelay time.Duration
}

func (l Limits) withDefaults() Limits {
	if l.Connections == 0 {
		l.Connections = 50_000
	}
	if l.Handshakes == 0 {
		l.Handshakes = 1024
	}
	if l.AcceptDelay == 0 {
		l.AcceptDelay = 5 * time.Second
	}
	return l
}

// Pods are the pods of this node.
type Pods struct {
	cfg     Config
	metrics *metrics

	mu       sync.Mutex
	arrivals []*Pod // to be started by Run
	wake     chan struct{}
	pods     map[string]*Pod // served, by UID
	ending   map[*Pod]bool   // no longer served, not over yet
	draining bool
	deadline time.Time     // of the drain
	over     chan struct{} // closed when Run has returned
}

// New makes an empty set of pods; Run serves them.
func New(cfg Config) *Pods {
	cfg.Limits = cfg.Limits.withDefaults()
	return &Pods{
		cfg: cfg, metrics: newMetrics(cfg.Metrics), wake: make(chan struct{}, 1),
		pods: map[string]*Pod{}, ending: map[*Pod]bool{}, over: make(chan struct{}),
	}
}

// Over is closed when Run has returned.
func (ps *Pods) Over() <-chan struct{} { return ps.over }

// Open counts the connections and streams of all pods.
func (ps *Pods) Open() (n int) {
	for _, p := range ps.all() {
		p.live.mu.Lock()
		n += p.live.open
		p.live.mu.Unlock()
	}
	return n
}

// Run serves pods, and judges their connections again when policy changes, until ctx ends: then everything is cut. It also
// returns, with nil, when a drain is over.
func (ps *Pods) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var all sync.WaitGroup
	defer close(ps.over)
	defer all.Wait()
	defer cancel()
	all.Go(func() { ps.judgeLoop(ctx) })
	for {
		arrivals, over := ps.next()
		for _, p := range arrivals {
			all.Go(func() {
				p.run(ctx)
				ps.ended(p)
			})
		}
		if over {
			return nil
		}
		select {
		case <-ps.wake:
		case <-ctx.Done():
			ps.refuse()
			return nil
		}
	}
}

// Rest lets connections that are idle wait with less memory, and returns how many began to. One goroutine calls it now and then:
// idle is who sent nothing since the last call.
func (ps *Pods) Rest() (n int) {
	for _, p := range ps.all() {
		for _, c := range p.live.list(false) {
			if c.Rest() {
				n++
			}
		}
	}
	return n
}

// next takes the pods to start, and tells whether a drain is over.
func (ps *Pods) next() (arrivals []*Pod, over bool) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	arrivals, ps.arrivals = ps.arrivals, nil
	return arrivals, ps.draining && len(arrivals) == 0 && len(ps.pods) == 0 && len(ps.ending) == 0
}

// refuse lets go of pods that were never started.
func (ps *Pods) refuse() {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.draining = true
	for _, p := range ps.arrivals {
		p.listeners.Close()
	}
	ps.arrivals = nil
}

func (ps *Pods) poke() {
	select {
	case ps.wake <- struct{}{}:
	default:
	}
}

// ended forgets a pod.
func (ps *Pods) ended(p *Pod) {
	ps.mu.Lock()
	delete(ps.ending, p)
	if ps.pods[p.UID] == p {
		delete(ps.pods, p.UID)
	}
	ps.metrics.active.Set(float64(len(ps.pods)))
	ps.mu.Unlock()
	ps.metrics.stopped.Inc()
	if ps.cfg.Handlers.Ended != nil {
		ps.cfg.Handlers.Ended(p)
	}
	ps.poke()
}

var errDraining = errors.New("this ztunnel drains")

// Add implements sockets.Handler.
func (ps *Pods) Add(pod *sockets.Pod, l sockets.Listeners) error {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ps.draining {
		l.Close()
		return errDraining
	}
	if old := ps.pods[pod.UID]; old != nil {
		ps.ending[old] = true
		if old.NetnsCookie == pod.NetnsCookie {
			old.leave(time.Time{})
		} else { // the same pod in another network namespace: what was in the old one is dead
			old.cut(CausePodGone)
		}
	}
	p := newPod(ps, pod, l)
	ps.pods[pod.UID] = p
	ps.arrivals = append(ps.arrivals, p)
	ps.metrics.started.Inc()
	ps.metrics.active.Set(float64(len(ps.pods)))
	ps.cfg.Log.Info("pod joined", "pod", pod, "uid", pod.UID)
	ps.poke()
	return nil
}

// Remove implements sockets.Handler.
func (ps *Pods) Remove(uid string, reason sockets.Reason) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	p := ps.pods[uid]
	if p == nil {
		return
	}
	delete(ps.pods, uid)
	ps.ending[p] = true
	ps.metrics.active.Set(float64(len(ps.pods)))
	ps.cfg.Log.Info("pod ends", "pod", p.Pod, "reason", reason.String())
	if reason == sockets.Left {
		p.leave(time.Time{})
	} else {
		p.cut(CausePodGone)
	}
}

// Synced implements sockets.Handler.
func (ps *Pods) Synced() {
	if ps.cfg.Synced != nil {
		ps.cfg.Synced()
	}
}

// Drain stops accepting in all pods, lets connections finish until the deadline (zero: none), then cuts them; Run returns
// when nothing is left. A later call may only bring the deadline forward.
//
// It implements sockets.Handler, but where Config.Drain is set the agent's word goes there first.
func (ps *Pods) Drain(deadline time.Time) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ps.draining && (deadline.IsZero() || !ps.deadline.IsZero() && ps.deadline.Before(deadline)) {
		return
	}
	ps.draining, ps.deadline = true, deadline
	for p := range ps.ending {
		p.leave(deadline)
	}
	for uid, p := range ps.pods {
		delete(ps.pods, uid)
		ps.ending[p] = true
		p.leave(deadline)
	}
	ps.metrics.active.Set(0)
	ps.poke()
}

// Agent is the sockets.Handler to give to the sockets: like Pods, but Drain goes to Config.Drain.
func (ps *Pods) Agent() sockets.Handler { return agentView{ps} }

type agentView struct{ *Pods }

func (v agentView) Drain(deadline time.Time) {
	if v.cfg.Drain != nil {
		v.cfg.Drain(deadline)
		return
	}
	v.Pods.Drain(deadline)
}

// all lists the pods that have or may have connections.
func (ps *Pods) all() []*Pod {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return append(slices.Collect(maps.Values(ps.pods)), slices.Collect(maps.Keys(ps.ending))...)
}

// PodView is a pod that is served, and its connections, for people.
type PodView struct {
	Pod         *sockets.Pod
	Connections []View
}

// Views describes the pods that are served.
func (ps *Pods) Views() []PodView {
	ps.mu.Lock()
	pods := slices.Collect(maps.Values(ps.pods))
	ps.mu.Unlock()
	views := make([]PodView, 0, len(pods))
	for _, p := range pods {
		v := PodView{Pod: p.Pod}
		for _, c := range p.live.list(false) {
			v.Connections = append(v.Connections, c.View())
		}
		views = append(views, v)
	}
	return views
}

// Served lists the pods that are served.
func (ps *Pods) Served() []*Pod {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return slices.Collect(maps.Values(ps.pods))
}
