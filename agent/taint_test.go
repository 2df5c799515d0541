package agent

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// The taint stays while the agent is not ready, goes when it is, in spite of errors, and goes again if it comes back.
func TestNodeTaint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		missing, tainted, failures, calls := []string{"the node's pods"}, true, 3, 0
		u := &untainter{key: "k", log: slog.New(slog.DiscardHandler), missing: func() []string { return missing }}
		u.remove = func(_ context.Context, key string) (bool, error) {
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
		time.Sleep(time.Hour)
		synctest.Wait()
		if calls != 0 {
			t.Errorf("%d calls before the agent is ready", calls)
		}
		state("the node's pods")
		missing = nil
		time.Sleep(taintLook)
		synctest.Wait()
		state("conflict")
		time.Sleep(7 * taintFirst) // 1 + 2 + 4
		synctest.Wait()
		if tainted || calls != 4 {
			t.Errorf("tainted %v after %d calls", tainted, calls)
		}
		state("without it")
		tainted = true
		time.Sleep(taintResync)
		synctest.Wait()
		if tainted || calls != 5 {
			t.Errorf("put back: tainted %v after %d calls", tainted, calls)
		}
		missing, tainted = []string{"something"}, true
		time.Sleep(time.Hour)
		synctest.Wait()
		if !tainted {
			t.Error("removed although the agent is not ready")
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
