package xds

import (
	"sync"
	"time"

	"github.com/ambit-mesh/ambit/controller/auth"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"golang.org/x/time/rate"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// sendWithin is how long a response may take to be handed to the connection.
	sendWithin = 30 * time.Second
	// hangUpAfter is how long a client that was refused has to read why, before its connection is closed.
	hangUpAfter = time.Second
	// asksPerSecond and asksAtOnce bound a client's requests that answer nothing. Answers are bounded by what is sent.
	asksPerSecond, asksAtOnce = 200, 2000
)

type wireStream = discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesServer

// stream is one client's connection: it moves messages between the client and its session.
type stream struct {
	srv     *Server
	id      uint64
	caller  auth.Caller
	node    node
	since   time.Time
	version string        // as counted
	leave   chan struct{} // closed to send the client elsewhere
	left    sync.Once
	asks    *rate.Limiter
	hangUp  func() // closes the connection under the stream

	mu      sync.Mutex // guards what Clients reads: the session's outside
	session *session   // changed by the stream's goroutine only, under mu
	bytes   uint64

	// The stream's goroutine only.
	stuck    *time.Timer    // ends a send that takes too long; made at the first
	behind   time.Time      // when the oldest change was published that the client may not have
	rejected map[string]int // rejected resources by type, as last counted
}

// run serves the client. One goroutine reads and decides; a client that does not read blocks its own send and nothing else,
// and what changes meanwhile is waiting in the table, not in a queue. started is called once the client has taken its
// first answers.
func (st *stream) run(gs wireStream, first *request, requests <-chan *request, errs <-chan error, started func()) error {
	defer st.count(true)
	if err := st.take(first); err != nil {
		return err
	}
	again := time.NewTimer(0) // one timer for all waits: with many clients a change is garbage enough
	defer again.Stop()
	for {
		changed, _ := st.srv.cfg.Table.watch()
		wait, err := st.push(gs)
		if err != nil {
			return st.failed(err)
		}
		if !st.session.opening() {
			started()
		}
		if again.Stop(); wait > 0 {
			again.Reset(wait)
		}
		select {
		case req := <-requests:
			if err := st.take(req); err != nil {
				return err
			}
		case err := <-errs:
			return ended(err)
		case <-st.leave:
			return errGoAway
		case <-changed:
			if st.behind.IsZero() {
				st.behind = st.srv.cfg.Table.published()
			}
		case <-again.C:
		}
	}
}

// failed ends a stream that could not be served on. A client that does not take what it is sent is disconnected, because its
// transport would hold the response for as long as it likes.
func (st *stream) failed(err error) error {
	cfg := &st.srv.cfg
	switch err {
	case errUnanswered:
		cfg.Metrics.timeouts.Inc()
		cfg.Log.Warn("xds client does not answer; it is disconnected", "client", st.node.id, "caller", st.caller, "limit", answerWithin)
		time.AfterFunc(hangUpAfter, st.hangUp)
	case errTooFarBehind:
		cfg.Metrics.ended.WithLabelValues("too_far_behind").Inc()
	}
	return err
}

// take hands a request to the session and reports what it was.
func (st *stream) take(req *request) error {
	cfg := &st.srv.cfg
	now := time.Now()
	st.mu.Lock()
	what, err := st.session.request(req, now)
	st.mu.Unlock()
	if err == nil && what != acknowledged && what != rejected && !st.asks.AllowN(now, 1) {
		err = status.Errorf(codes.ResourceExhausted, "more than %d requests a second", asksPerSecond)
	}
	if err != nil {
		cfg.Metrics.refused.WithLabelValues("bad_request").Inc()
		cfg.Log.Warn("xds request refused", "client", st.node.id, "caller", st.caller, "err", err)
		return err
	}
	typ := shortType(req.typeURL)
	switch what {
	case rejected:
		cfg.Metrics.rejects.WithLabelValues(typ).Inc()
		if left, ok := st.srv.complaints.allow(now); ok {
			cfg.Log.Warn("xds client rejected resources; it keeps what it had of them", "client", st.node.id, "type", typ,
				"reason", clip(req.complaint), "not_logged", left)
		}
	case stale:
		cfg.Metrics.expired.Inc()
	case subscribed, acknowledged:
	}
	return nil
}

// push sends everything that may be sent now.
func (st *stream) push(gs wireStream) (wait time.Duration, err error) {
	cfg := &st.srv.cfg
	for {
		now := time.Now()
		st.mu.Lock()
		r, wait, err := st.session.next(cfg.Table, now)
		st.mu.Unlock()
		st.count(false)
		if err != nil {
			return 0, err
		}
		if r == nil {
			if st.session.current(cfg.Table) {
				st.behind = time.Time{}
			}
			return wait, nil
		}
		cfg.Metrics.pushTime.Observe(time.Since(now).Seconds())
		if err := st.send(gs, r); err != nil {
			return 0, err
		}
		st.mu.Lock()
		st.bytes += uint64(r.size)
		st.mu.Unlock()
		cfg.Metrics.sent(r)
		if r.size > largestResponse {
			cfg.Metrics.internal.Inc()
			cfg.Log.Error("response is larger than a node proxy takes; it cannot be configured", "client", st.node.id, "bytes", r.size)
		}
		if !r.first && !st.behind.IsZero() {
			cfg.Metrics.convergence.Observe(time.Since(st.behind).Seconds())
		}
	}
}

// largestResponse is what Istio's ztunnel takes in one message, in bytes. A first response is never split: a node proxy is
// ready for traffic once it has accepted one.
const largestResponse = 200 << 20

// send hands a response to the connection. It blocks while the client's window is full, for a while.
func (st *stream) send(gs wireStream, r *response) error {
	cfg := &st.srv.cfg
	start := time.Now()
	if st.stuck == nil {
		st.stuck = time.AfterFunc(sendWithin, func() {
			cfg.Metrics.timeouts.Inc()
			cfg.Log.Warn("xds client does not read; it is disconnected", "client", st.node.id, "caller", st.caller, "limit", sendWithin)
			st.hangUp()
		})
	} else {
		st.stuck.Reset(sendWithin)
	}
	err := gs.SendMsg(r)
	st.stuck.Stop()
	cfg.Metrics.sendTime.Observe(time.Since(start).Seconds())
	return err
}

// count keeps the metric of rejected resources; at the end the client counts no more.
func (st *stream) count(end bool) {
	for url, sub := range st.session.subs {
		n := len(sub.rejected)
		if end {
			n = 0
		}
		if d := n - st.rejected[url]; d != 0 {
			st.srv.cfg.Metrics.rejected.WithLabelValues(shortType(url)).Add(float64(d))
			st.rejected[url] = n
		}
	}
}

// published is when the newest change was.
func (t *Table) published() time.Time {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.at
}
