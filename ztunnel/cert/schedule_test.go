package cert

import (
	"math/rand/v2"
	"testing"
	"time"
)

func TestNext(t *testing.T) {
	t0 := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	at := func(d time.Duration) time.Time { return t0.Add(d) }
	for _, tc := range []struct {
		name                string
		now                 time.Duration
		notBefore, notAfter time.Duration // from t0; both 0: no certificate
		attempt             int
		rand                float64
		want                time.Duration
	}{
		{name: "half life", notAfter: 24 * time.Hour, rand: 0.5, want: 12 * time.Hour},
		{name: "half life, earliest", notAfter: 24 * time.Hour, rand: 0, want: 12*time.Hour - 72*time.Minute},
		{name: "backdated", notBefore: -2 * time.Minute, notAfter: 58 * time.Minute, rand: 0.5, want: 28 * time.Minute},
		{name: "backdated past its half life", notBefore: -2 * time.Minute, notAfter: time.Minute, rand: 0.5, want: 30 * time.Second},
		{name: "hardly any life", notBefore: -time.Minute, notAfter: 10 * time.Millisecond, rand: 0.5, want: time.Second},
		{name: "obtained expired", now: time.Hour, notAfter: time.Minute, rand: 0.5, want: time.Hour + time.Second},
		{name: "first failure, no certificate", attempt: 1, rand: 0.5, want: time.Second},
		{name: "second failure", attempt: 2, rand: 0.5, want: 2 * time.Second},
		{name: "jitter up", attempt: 3, rand: 0.999999999, want: 4800 * time.Millisecond},
		{name: "jitter down", attempt: 3, rand: 0, want: 3200 * time.Millisecond},
		{name: "capped", attempt: 9, rand: 0.999999, want: 150 * time.Second},
		{name: "capped for good", attempt: 1 << 40, rand: 0.5, want: 150 * time.Second},
		{name: "failure with much life left", notAfter: time.Hour, attempt: 8, rand: 0.5, want: 128 * time.Second},
		{name: "failure close to expiry", notAfter: 10 * time.Second, attempt: 8, rand: 0.5, want: 10 * time.Second},
		{name: "failure after expiry", now: time.Minute, notAfter: time.Second, attempt: 1, rand: 0.5, want: time.Minute + time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var before, after time.Time
			if tc.notAfter != 0 {
				before, after = at(tc.notBefore), at(tc.notAfter)
			}
			got := Next(at(tc.now), before, after, tc.attempt, func() float64 { return tc.rand })
			if diff := got.Sub(at(tc.want)).Abs(); diff > time.Millisecond {
				t.Errorf("got %v, want %v", got.Sub(t0), tc.want)
			}
		})
	}
}

// TestNextNeverSpins: whatever a CA says, the next request is later than now, unless there is no certificate at all.
func TestNextNeverSpins(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for range 100_000 {
		before := now.Add(time.Duration(r.Int64N(int64(48*time.Hour))) - 47*time.Hour)
		after := before.Add(time.Duration(r.Int64N(int64(72 * time.Hour))))
		attempt := r.IntN(20)
		if got := Next(now, before, after, attempt, r.Float64); !got.After(now) {
			t.Fatalf("Next(%v, %v, %v, %d) = %v", now, before, after, attempt, got)
		}
	}
}
