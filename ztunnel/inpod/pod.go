package inpod

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/ambit-mesh/ambit/ztunnel/sockets"
	"github.com/ambit-mesh/ambit/ztunnel/state"
)

// Pod is a pod that is served.
type Pod struct {
	*sockets.Pod
	// Key is how the snapshot knows the pod.
	Key state.LocalKey

	owner     *Pods
	listeners sockets.Listeners
	live      set
	half      handshakes

	mu       sync.Mutex
	left     chan struct{} // closed: accept nothing more
	leaving  bool
	deadline time.Time     // for what is left; zero: none
	sooner   chan struct{} // one token: deadline has changed
	gone     chan struct{} // closed: cut everything
	cause    Cause         // why, set before gone is closed
}

func newPod(owner *Pods, pod *sockets.Pod, l sockets.Listeners) *Pod {
	p := &Pod{
		Pod: pod, Key: state.LocalKey{Namespace: pod.Namespace, Name: pod.Name, ServiceAccount: pod.ServiceAccount},
		owner: owner, listeners: l, left: make(chan struct{}), gone: make(chan struct{}), sooner: make(chan struct{}, 1),
	}
	p.live.init(owner.cfg.Limits.Connections)
	p.half.limit = owner.cfg.Limits.Handshakes
	return p
}

// Workload is the pod's record in a snapshot, or nil.
func (p *Pod) Workload(s *state.Snapshot) *state.Workload { return s.Local(p.Key) }

// leave stops accepting; what is open has until the deadline (zero: none).
func (p *Pod) leave(deadline time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.leaving {
		p.leaving = true
		close(p.left)
	}
	if p.deadline.IsZero() || !deadline.IsZero() && deadline.Before(p.deadline) {
		p.deadline = deadline
		select {
		case p.sooner <- struct{}{}:
		default:
		}
	}
}

// cut ends everything at once.
func (p *Pod) cut(why Cause) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cause == CauseNone {
		p.cause = why
		close(p.gone)
	}
}

// run serves the pod until it is over.
func (p *Pod) run(ctx context.Context) {
	defer p.attend(ctx)()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	loops := p.accept(ctx)
	select {
	case <-p.left:
	case <-p.gone:
	case <-ctx.Done():
		p.cut(CauseStopped)
	}
	p.listeners.Close()
	loops.Wait()
	p.live.drain()
	idle := make(chan struct{})
	go func() {
		p.live.idle.Wait()
		close(idle)
	}()
	p.awaitIdle(ctx, idle)
	p.mu.Lock()
	why := p.cause
	p.mu.Unlock()
	p.live.cut(why) // also what is still being set up, and what would come later
	cancel()        // and after it, so that a connection's record says why it ended and not that its tunnel was lost
	<-idle
}

// attend starts what accompanies the pod; the answer ends it.
func (p *Pod) attend(ctx context.Context) (end func()) {
	if p.owner.cfg.Handlers.Attend == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer p.Guard("attend")
		p.owner.cfg.Handlers.Attend(ctx, p)
	}()
	return func() {
		cancel()
		<-ended
	}
}

// awaitIdle waits until the last connection has ended, or the deadline, or the end. It sets the cause of what is then cut.
func (p *Pod) awaitIdle(ctx context.Context, idle <-chan struct{}) {
	for {
		p.mu.Lock()
		deadline := p.deadline
		p.mu.Unlock()
		var late <-chan time.Time
		var timer *time.Timer
		if !deadline.IsZero() {
			timer = time.NewTimer(time.Until(deadline))
			late = timer.C
		}
		done := true
		select {
		case <-idle:
		case <-p.gone:
		case <-ctx.Done():
			p.cut(CauseStopped)
		case <-late:
			p.cut(CauseDrain)
		case <-p.sooner:
			done = false
		}
		if timer != nil {
			timer.Stop()
		}
		if done {
			return
		}
	}
}

// Guard keeps a bug in serving one connection from taking the node down with it: the connection is lost, the bug is logged.
func (p *Pod) Guard(what string) {
	if r := recover(); r != nil {
		p.owner.metrics.panics.Inc()
		p.owner.cfg.Log.Error("connection lost to a bug", "pod", p.Pod, "listener", what, "err", fmt.Sprint(r), "stack", string(debug.Stack()))
	}
}
