package ztunnel

import (
	"context"
	"sync"
	"time"

	"github.com/ambit-mesh/ambit/ztunnel/admin"
	"github.com/ambit-mesh/ambit/ztunnel/inpod"
	"github.com/ambit-mesh/ambit/ztunnel/sockets"
	"github.com/ambit-mesh/ambit/ztunnel/state"
)

// lifecycle decides when the ztunnel is ready and when it ends.
//
//	starting ──first snapshot, agent's pods, certificates──▶ ready ──signal, quitquitquit──▶ draining ──▶ ended
//	                                                           │                               ▲
//	                                                           └──a newer ztunnel is ready──▶ replaced: drained, waits for the signal
type lifecycle struct {
	cfg   Config
	ready chan struct{} // closed when everything but the agent's snapshot is there

	agentSynced func() // told that the agent has named every pod
	stateSynced func()
	certsReady  func()
	agentDone   chan struct{}

	once     sync.Once
	quitting chan struct{}  // closed by quit
	newer    chan time.Time // the deadline of a ztunnel that was replaced
}

func newLifecycle(cfg Config, ready *admin.Readiness) *lifecycle {
	l := &lifecycle{
		cfg: cfg, ready: make(chan struct{}), quitting: make(chan struct{}), newer: make(chan time.Time, 1), agentDone: make(chan struct{}),
		stateSynced: ready.Pending("state manager"), certsReady: ready.Pending("certificates"),
	}
	done := ready.Pending("workload proxy manager")
	l.agentSynced = sync.OnceFunc(func() {
		done()
		close(l.agentDone)
	})
	return l
}

// quit begins the drain.
func (l *lifecycle) quit() { l.once.Do(func() { close(l.quitting) }) }

// replaced is the agent's word that a newer ztunnel serves. The first one counts.
func (l *lifecycle) replaced(deadline time.Time) {
	select {
	case l.newer <- deadline:
	default:
	}
}

// becomeReady waits for the first snapshot, the agent's pods and their certificates, in this order.
func (l *lifecycle) becomeReady(ctx context.Context, store *state.Store, pods *inpod.Pods, certs certificates) error {
	if _, err := store.WaitSynced(ctx); err != nil {
		return nil // the end came first
	}
	l.stateSynced()
	l.cfg.Log.Info("first configuration is complete", "snapshot", store.Load().Version())
	select {
	case <-l.agentDone:
	case <-ctx.Done():
		return nil
	}
	if !awaitCertificates(ctx, store, pods, certs) {
		return nil
	}
	l.certsReady()
	close(l.ready)
	l.cfg.Log.Info("ztunnel is ready", "pods", len(pods.Served()))
	return nil
}

// certificateRetry is the pause before the CA is asked again for what it did not give.
const certificateRetry = time.Second

// awaitCertificates waits until the identities of the node's pods have certificates. One that the CA refuses for good must
// not stop the others, so one is enough once all have an answer; none at all means that the CA cannot be reached.
func awaitCertificates(ctx context.Context, store *state.Store, pods *inpod.Pods, certs certificates) bool {
	for {
		asked, got := 0, 0
		snap := store.Load()
		for _, p := range pods.Served() {
			w := p.Workload(snap)
			if w == nil {
				continue
			}
			asked++
			if _, err := certs.Get(ctx, w.Identity()); err == nil {
				got++
			}
		}
		if asked == 0 || got > 0 {
			return ctx.Err() == nil
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(certificateRetry):
		}
	}
}

// end waits until it is time to end, drains, and returns when nothing is left. work outlives told by the drain.
func (l *lifecycle) end(told, work context.Context, pods *inpod.Pods, agent *sockets.Client) error {
	for serving := true; serving; {
		select {
		case deadline := <-l.newer:
			// It must not end: Kubernetes would start it again, as the newest.
			l.cfg.Log.Info("a newer ztunnel serves, this one drains", "deadline", deadline)
			pods.Drain(deadline)
		case <-told.Done():
			serving = false
		case <-l.quitting:
			serving = false
		case <-work.Done(): // another part has failed
			return nil
		}
	}
	l.cfg.Log.Info("ztunnel ends, connections may finish", "limit", l.cfg.DrainTimeout)
	agent.Draining()
	pods.Drain(time.Now().Add(l.cfg.DrainTimeout))
	select {
	case <-pods.Over():
	case <-work.Done():
	}
	l.cfg.Log.Info("ztunnel has ended")
	return nil
}
