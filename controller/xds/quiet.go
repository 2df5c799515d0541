package xds

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// quiet bounds how often something is logged: a bad resource is rejected by every client at once.
type quiet struct {
	mu      sync.Mutex
	limit   *rate.Limiter
	skipped int
}

func newQuiet(every time.Duration, atOnce int) *quiet {
	return &quiet{limit: rate.NewLimiter(rate.Every(every), atOnce)}
}

// allow says whether to log now, and how many were not logged since the last time.
func (q *quiet) allow(now time.Time) (skipped int, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.limit.AllowN(now, 1) {
		q.skipped++
		return 0, false
	}
	skipped, q.skipped = q.skipped, 0
	return skipped, true
}
