package handoff

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
)

// An honest ztunnel connects once, or backs off. Lines for one reason over these bounds are summed up.
const (
	lineRate     = 1 // a second
	lineBurst    = 20
	summaryEvery = 10 * time.Second
)

// lines bounds the log lines that a peer causes by connecting again and again: whoever runs as the ztunnel's user may try. It is
// safe for concurrent use.
type lines struct {
	log        *slog.Logger
	suppressed *prometheus.CounterVec

	mu      sync.Mutex
	buckets map[string]*bucket // by reason, which are constants of ours
}

type bucket struct {
	*rate.Limiter
	left int // lines suppressed since the last summary
}

func newLines(log *slog.Logger, suppressed *prometheus.CounterVec) *lines {
	return &lines{log: log, suppressed: suppressed, buckets: map[string]*bucket{}}
}

// allow tells whether there may be a line for a reason; otherwise it is counted.
func (l *lines) allow(why string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.buckets[why]
	if b == nil {
		b = &bucket{Limiter: rate.NewLimiter(lineRate, lineBurst)}
		l.buckets[why] = b
	}
	if b.Allow() {
		return true
	}
	b.left++
	l.suppressed.WithLabelValues(why).Inc()
	return false
}

// run sums up until ctx ends, and once more.
func (l *lines) run(ctx context.Context) {
	ticker := time.NewTicker(summaryEvery)
	defer ticker.Stop()
	defer l.sumUp()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			l.sumUp()
		}
	}
}

func (l *lines) sumUp() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for why, b := range l.buckets {
		if b.left > 0 {
			l.log.Warn("lines of hand-off connections suppressed", "reason", why, "count", b.left)
			b.left = 0
		}
	}
}
