package xds

import (
	"sync"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/ambit-mesh/ambit/controller/auth"
)

// stream is one client's connection: it moves messages between the client and its session.
type stream struct {
	srv    *Server
	id     uint64
	caller auth.Caller
	node   node
	since  time.Time

	mu      sync.Mutex // guards what Clients reads: the session's outside
	session *session   // changed by the stream's goroutine only, under mu
	bytes   uint64

	behind time.Time // when the oldest change was published that the client may not have; the stream's goroutine only
}

// run serves the client. One goroutine reads and decides; a client that does not read blocks its own send and nothing else,
// and what changes meanwhile is waiting in the table, not in a queue.
func (st *stream) run(gs discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesServer, first *discovery.DeltaDiscoveryRequest,
	requests <-chan *discovery.DeltaDiscoveryRequest, errs <-chan error,
) error {
	if err := st.take(first); err != nil {
		return err
	}
	for {
		changed, _ := st.srv.cfg.Table.watch()
		wait, err := st.push(gs)
		if err != nil {
			return err
		}
		var timer <-chan time.Time
		if wait > 0 {
			timer = time.After(wait)
		}
		select {
		case req := <-requests:
			if err := st.take(req); err != nil {
				return err
			}
		case err := <-errs:
			return ended(err)
		case <-st.srv.cfg.Done:
			return shuttingDown()
		case <-changed:
			if st.behind.IsZero() {
				st.behind = st.srv.cfg.Table.published()
			}
		case <-timer:
		}
	}
}

// take hands a request to the session and reports what it was.
func (st *stream) take(req *discovery.DeltaDiscoveryRequest) error {
	cfg := &st.srv.cfg
	st.mu.Lock()
	what, err := st.session.request(req, time.Now())
	st.mu.Unlock()
	if err != nil {
		cfg.Metrics.refused.WithLabelValues("bad_request").Inc()
		cfg.Log.Warn("xds request refused", "client", st.node.id, "caller", st.caller, "err", err)
		return err
	}
	typ := shortType(req.GetTypeUrl())
	switch what {
	case rejected:
		cfg.Metrics.rejects.WithLabelValues(typ).Inc()
		cfg.Log.Warn("xds client rejected resources; it keeps what it had", "client", st.node.id, "type", typ,
			"reason", clip(req.GetErrorDetail().GetMessage()))
	case stale:
		cfg.Metrics.expired.Inc()
	case subscribed, acknowledged:
	}
	return nil
}

// push sends everything that may be sent now.
func (st *stream) push(gs discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) (wait time.Duration, err error) {
	cfg := &st.srv.cfg
	for {
		now := time.Now()
		st.mu.Lock()
		r, wait, err := st.session.next(cfg.Table, now)
		st.mu.Unlock()
		if err != nil {
			return 0, err
		}
		if r == nil {
			if st.session.current(cfg.Table) {
				st.behind = time.Time{}
			}
			return wait, nil
		}
		if err := gs.SendMsg(r); err != nil {
			return 0, err
		}
		size := r.size()
		st.mu.Lock()
		st.bytes += uint64(size)
		st.mu.Unlock()
		cfg.Metrics.sent(r, size)
		if !r.first && !st.behind.IsZero() {
			cfg.Metrics.convergence.Observe(time.Since(st.behind).Seconds())
		}
	}
}

// published is when the newest change was.
func (t *Table) published() time.Time {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.at
}
