package flow

import (
	"math/rand/v2"
	"testing"
	"time"
)

func TestSendWindow(t *testing.T) {
	w := NewSend(10)
	w.Take(10)
	if w.Available() != 0 {
		t.Error("window not exhausted")
	}
	if !w.Add(-5) || w.Available() != 0 {
		t.Error("a lowered initial window makes it negative, which is legal")
	}
	if !w.Add(6) || w.Available() != 1 {
		t.Error("credit after a negative window")
	}
	if w.Add(Max) {
		t.Error("overflow accepted")
	}
}

func TestCreditComesWithConsumptionOnly(t *testing.T) {
	w := NewReceive(1000, 1000)
	if !w.Got(1000) || w.Got(1) {
		t.Fatal("the window is 1000 bytes")
	}
	if w.Due() || w.Credit() != 0 {
		t.Fatal("credit for bytes nobody took")
	}
	w.Consumed(400)
	if w.Due() {
		t.Fatal("an update for less than half the window")
	}
	w.Consumed(200)
	if !w.Due() || w.Credit() != 600 || w.Credit() != 0 {
		t.Fatal("600 bytes left, so 600 bytes of credit, once")
	}
}

func TestWindowFollowsTheReader(t *testing.T) {
	w := NewReceive(100, 350)
	for i, want := range []int64{100, 150, 0} {
		if got := w.Tune(time.Hour, 1000); got != want {
			t.Errorf("growth %d: %d, want %d", i, got, want)
		}
	}
	if w.Credit() != 250 {
		t.Error("growth is credit")
	}
	// The reader takes 50 bytes in ten times Cover, and half the window waits for it.
	w.Got(350)
	w.Consumed(175)
	for i, want := range []int64{-175, -75, 0} {
		if got := w.Tune(10*Cover, 1000); got != want {
			t.Errorf("shrinking %d: %d, want %d", i, got, want)
		}
	}
	if w.Target() != 100 || w.Credit() != 0 {
		t.Error("shrinking grants nothing")
	}
	w.Consumed(175)
	if w.Credit() != 100 {
		t.Error("credit resumes below the base")
	}
	if w.Tune(0, 30) != 30 || w.Tune(0, 0) != 0 || w.Tune(0, -5) != 0 {
		t.Error("the budget bounds growth")
	}
	if w.Reset() != 30 || w.Target() != 100 {
		t.Error("the end gives the budget back")
	}
	// A reader that takes much but always has more waiting keeps a window for Cover.
	w = NewReceive(100, 10000)
	w.Tune(time.Hour, 1e6)
	w.Credit()
	w.Got(200)
	w.Consumed(100)
	if w.Tune(Cover/5, 1e6); w.Target() != 500 {
		t.Errorf("100 bytes in a fifth of Cover: a window of %d", w.Target())
	}
}

// TestAgainstModel plays random histories and checks that what the peer may send plus what we hold stays within the
// largest target so far.
func TestAgainstModel(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		w := NewReceive(1000, 16000)
		open, held, most := int64(1000), int64(0), int64(1000)
		for range 500 {
			switch r.IntN(4) {
			case 0:
				n := r.Int64N(open + 2)
				if ok := w.Got(int(n)); ok != (n <= open) {
					t.Fatalf("seed %d: Got(%d) with %d open: %v", seed, n, open, ok)
				} else if ok {
					open, held = open-n, held+n
				}
			case 1:
				n := r.Int64N(held + 1)
				w.Consumed(int(n))
				held -= n
			case 2:
				w.Tune(time.Duration(r.Int64N(int64(4*Cover))), r.Int64N(4000))
				most = max(most, w.Target())
			case 3:
				if w.Due() {
					open += w.Credit()
				}
			}
			if open+held > most {
				t.Fatalf("seed %d: %d open and %d held exceed %d", seed, open, held, most)
			}
		}
	}
}
