package agent

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"
)

// Timing of the node's taint.
const (
	taintLook   = time.Second // between looks at the agent's own readiness
	taintFirst  = time.Second // before a failed removal is tried again; doubled each time
	taintLast   = 30 * time.Second
	taintResync = time.Minute      // a taint that somebody has put back is found
	taintLimit  = 10 * time.Second // for one answer of the API server
)

// nodeSource is a source that has a node with taints.
type nodeSource interface {
	Untaint(ctx context.Context, key string) (removed bool, err error)
}

// untainter lets pods be scheduled on the node once the agent is ready for them: whoever adds nodes taints them, so that no pod
// starts before its traffic can be captured. What counts is the state, not the moment: a taint that comes back is removed again,
// while the agent is ready and only then.
type untainter struct {
	key     string
	missing func() []string // why the agent is not ready
	remove  func(ctx context.Context, key string) (bool, error)
	log     *slog.Logger
	state   atomic.Pointer[string] // for the status
}

func (u *untainter) say(s string) { u.state.Store(&s) }

func (u *untainter) run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	backoff := taintFirst
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		if missing := u.missing(); len(missing) > 0 {
			u.say("not touched before the agent is ready; it waits for: " + strings.Join(missing, ", "))
			timer.Reset(taintLook)
			continue
		}
		limited, cancel := context.WithTimeout(ctx, taintLimit)
		removed, err := u.remove(limited, u.key)
		cancel()
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			u.say("cannot be removed: " + err.Error())
			u.log.Warn("node's taint could not be removed; trying again", "taint", u.key, "err", err)
			timer.Reset(backoff)
			backoff = min(2*backoff, taintLast)
			continue
		case removed:
			u.log.Info("node's taint removed: the agent is ready", "taint", u.key)
		}
		u.say("the node is without it")
		backoff = taintFirst
		timer.Reset(taintResync)
	}
}
