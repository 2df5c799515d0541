package ca

import (
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/ambit-mesh/ambit/controller/auth"
)

const (
	// refusalsPerSecond and refusalBurst bound the log's lines of each reason: a client that is refused tries again for ever.
	refusalsPerSecond = 5
	refusalBurst      = 50
)

// refusalLog writes refusals, so many a second of each reason; the next line says how many were left out. The metric counts all.
type refusalLog struct {
	log *slog.Logger
	now func() time.Time

	mu    sync.Mutex
	state map[Reason]*refusalState
}

type refusalState struct {
	limit   *rate.Limiter
	leftOut int
}

func (l *refusalLog) write(caller auth.Caller, identity string, why *refusal) {
	leftOut, ok := l.allow(why.reason)
	if !ok {
		return
	}
	l.log.Warn("certificate refused", "caller", caller, "identity", identity, "reason", string(why.reason), "detail", why.text, "left_out", leftOut)
}

func (l *refusalLog) allow(r Reason) (leftOut int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	st := l.state[r]
	if st == nil {
		if l.state == nil {
			l.state = map[Reason]*refusalState{}
		}
		st = &refusalState{limit: rate.NewLimiter(refusalsPerSecond, refusalBurst)}
		l.state[r] = st
	}
	if !st.limit.AllowN(l.now(), 1) {
		st.leftOut++
		return 0, false
	}
	leftOut, st.leftOut = st.leftOut, 0
	return leftOut, true
}
