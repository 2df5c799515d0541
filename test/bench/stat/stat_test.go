package stat

import (
	"os"
	"testing"
)

func TestMedianSpreadRatio(t *testing.T) {
	for name, c := range map[string]struct {
		s              Series
		median, spread float64
	}{
		"none":  {nil, 0, 0},
		"one":   {Series{4}, 4, 0},
		"odd":   {Series{9, 1, 5}, 5, 1.6},
		"even":  {Series{4, 1, 3, 2}, 2.5, 1.2},
		"zeros": {Series{0, 0}, 0, 0},
	} {
		if got := c.s.Median(); got != c.median {
			t.Errorf("%s: median %v, want %v", name, got, c.median)
		}
		if got := c.s.Spread(); got != c.spread {
			t.Errorf("%s: spread %v, want %v", name, got, c.spread)
		}
	}
	if got := Ratio(Series{1, 2, 3}, Series{4}); got != 0.5 {
		t.Errorf("ratio %v, want 0.5", got)
	}
	if got := Ratio(Series{1}, nil); got != 0 {
		t.Errorf("ratio to nothing %v, want 0", got)
	}
}

func TestReadsThisMachine(t *testing.T) {
	if busy, err := Machine(); err != nil || busy <= 0 {
		t.Errorf("machine busy for %v s, error %v", busy, err)
	}
	if m, err := Memory(os.Getpid()); err != nil || m <= 0 {
		t.Errorf("own memory %v, error %v", m, err)
	}
}
