package telemetry

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
)

const (
	// logRate and logBurst: a hundred lines show who it is, ten a second that it goes on. A line has half a KiB, so that a flood for
	// one reason writes some 20 MiB an hour. The kubelet keeps 50 MiB of a container's log (containerLogMaxSize times
	// containerLogMaxFiles, by default).
	logRate  = 10
	logBurst = 100
	// summaryEvery is how often suppressed lines are summed up.
	summaryEvery = 10 * time.Second
	// maxReasons bounds the buckets. There are fewer reasons, which are constants of ours; further ones share a bucket.
	maxReasons = 64
)

// unserved is the reason by which a record's lines are limited; empty if they are not: of connections that were served each
// has its line, however it ended.
func (r *Record) unserved() string {
	switch {
	case r.Event == EventFailed, r.Event == EventComplete && r.Unserved && (r.Refused || r.Flag == FlagDeny):
		return or(r.Reason, "unknown")
	case r.Event == EventComplete && r.Unserved: // the reason says why it was allowed, or routed so
		return r.Flag.String()
	default:
		return ""
	}
}

// limits has a token bucket for each reason. It is safe for concurrent use.
type limits struct {
	rate       rate.Limit
	burst      int
	suppressed *prometheus.CounterVec

	mu      sync.Mutex
	buckets map[string]*bucket
}

type bucket struct {
	*rate.Limiter
	total prometheus.Counter
	since uint64 // lines suppressed since the last summary; guarded by limits.mu
}

func newLimits(perSecond, burst int) *limits {
	return &limits{
		rate: rate.Limit(perSecond), burst: burst, buckets: map[string]*bucket{},
		suppressed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ambit_ztunnel_access_log_suppressed_total",
			Help: "Access log lines of connections that were never served, left out because there were too many, by reason. " +
				"If it grows, something floods this node: the lines that are there name sources.",
		}, []string{"reason"}),
	}
}

// allow takes a token of a reason, or counts a line that is suppressed.
func (l *limits) allow(why string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.bucketLocked(why)
	if b.Allow() {
		return true
	}
	b.since++
	b.total.Inc()
	return false
}

func (l *limits) bucketLocked(why string) *bucket {
	b := l.buckets[why]
	if b == nil && len(l.buckets) >= maxReasons {
		why = overflowLabel
		b = l.buckets[why]
	}
	if b == nil {
		b = &bucket{Limiter: rate.NewLimiter(l.rate, l.burst), total: l.suppressed.WithLabelValues(why)}
		l.buckets[why] = b
	}
	return b
}

// take tells what was suppressed since the last call, in no order.
func (l *limits) take(tell func(why string, n uint64)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for why, b := range l.buckets {
		if b.since > 0 {
			tell(why, b.since)
			b.since = 0
		}
	}
}
