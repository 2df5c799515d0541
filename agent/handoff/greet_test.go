package handoff

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// Connections that say nothing hold a bounded number of places, and keep no ztunnel out.
func TestSilentConnectionsMakeRoom(t *testing.T) {
	n := start(t, path(t), nil)
	n.pass()
	const more = 20
	for range maxGreeting + more {
		dial(t, n.path)
	}
	crowdedOut := n.cfg.Metrics.refusals.WithLabelValues("crowded_out")
	for limit := time.Now().Add(patience); testutil.ToFloat64(crowdedOut) < more; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("%v of %d made room", testutil.ToFloat64(crowdedOut), more)
		}
	}
	z := dial(t, n.path)
	z.say(hello("z"))
	if m, _ := z.hear(); m.GetWelcome() == nil {
		t.Errorf("got %v, want a welcome", m)
	}
}
