package handoff

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestLinesOfAFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		m := NewMetrics(prometheus.NewRegistry())
		l := newLines(slog.New(slog.NewTextHandler(&out, nil)), m.suppressed)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { l.run(ctx); close(ended) }()
		written := 0
		flood := func() {
			for range 100 {
				if l.allow("unauthorized") {
					written++
				}
			}
		}
		flood()
		if written != 20 || !l.allow("version") {
			t.Errorf("%d lines at once, or another reason's are suppressed, too", written)
		}
		time.Sleep(10*time.Second + time.Millisecond)
		synctest.Wait()
		if got := out.String(); !strings.Contains(got, "reason=unauthorized count=80") || strings.Contains(got, "version") {
			t.Errorf("summary: %q", got)
		}
		out.Reset()
		flood() // ten seconds later: ten tokens
		cancel()
		<-ended
		if got := out.String(); written != 30 || !strings.Contains(got, "reason=unauthorized count=90") {
			t.Errorf("%d lines; last summary: %q", written, got)
		}
		if n := testutil.ToFloat64(m.suppressed.WithLabelValues("unauthorized")); n != 170 {
			t.Errorf("%v counted as suppressed", n)
		}
	})
}

// Every refusal is counted, and few have a line.
func TestRefusalsAreLimited(t *testing.T) {
	var out safeBuffer
	n := start(t, path(t), func(cfg *Config) {
		cfg.Allow = func(Peer) error { return errors.New("not you") }
		cfg.Log = slog.New(slog.NewTextHandler(&out, nil))
	})
	n.pass()
	const tries = 200
	for range tries {
		z := dial(t, n.path)
		_, _ = z.Send(hello("z")) // may be too late: the refusal can come first
		if m, _ := z.hear(); m.GetRefuse() == nil {
			t.Fatalf("got %v, want a refusal", m)
		}
		z.Close()
	}
	if got := testutil.ToFloat64(n.cfg.Metrics.refusals.WithLabelValues("unauthorized")); got != tries {
		t.Errorf("%v refusals counted", got)
	}
	suppressed := int(testutil.ToFloat64(n.cfg.Metrics.suppressed.WithLabelValues("unauthorized")))
	if got := strings.Count(out.String(), "ztunnel refused"); suppressed == 0 || got+suppressed != tries {
		t.Errorf("%d lines and %d suppressed of %d", got, suppressed, tries)
	}
}

// safeBuffer is written and read at a time.
type safeBuffer struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.String()
}
