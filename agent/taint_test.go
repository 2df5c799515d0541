package agent

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// The taint stays while the agent is not ready, goes when it is, in spite of errors, and goes again if it comes back.
func TestNodeTaint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex // held by the test but while it sleeps
		mu.Lock()
		defer mu.Unlock()
		missing, tainted, failures, calls := []string{"the node's pods"}, true, 3, 0
		u := &untainter{key: "k", log: slog.New(slog.DiscardHandler), missing: func() []string {
			mu.Lock()
			defer mu.Unlock()
			return missing
		}}
		u.remove = func(_ context.Context, key string) (bool, error) {
			mu.Lock()
			defer mu.Unlock()
			if calls++; key != "k" {
				t.Errorf("key %q", key)
			}
			if failures > 0 {
				failures--
				return false, errors.New("conflict")
			}
			was := tainted
			tainted = false
			return was, nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- u.run(ctx) }()
		state := func(want string) {
			t.Helper()
			if got := *u.state.Load(); !strings.Contains(got, want) {
				t.Errorf("state %q, want %q in it", got, want)
			}
		}
		pass := func(d time.Duration) {
			mu.Unlock()
			time.Sleep(d)
			synctest.Wait()
			mu.Lock()
		}
		pass(time.Hour)
		if calls != 0 {
			t.Errorf("%d calls before the agent is ready", calls)
		}
		state("the node's pods")
		missing = nil
		pass(taintLook)
		state("conflict")
		pass(7 * taintFirst) // 1 + 2 + 4
		if tainted || calls != 4 {
			t.Errorf("tainted %v after %d calls", tainted, calls)
		}
		state("without it")
		tainted = true
		pass(taintResync)
		if tainted || calls != 5 {
			t.Errorf("put back: tainted %v after %d calls", tainted, calls)
		}
		missing, tainted = []string{"something"}, true
		pass(time.Hour)
		if !tainted {
			t.Error("removed although the agent is not ready")
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
