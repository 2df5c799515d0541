package figure

import (
	"strings"
	"testing"
	"time"

	"github.com/ambit-mesh/ambit/test/bench/load"
	"github.com/ambit-mesh/ambit/test/bench/stat"
)

func TestValuesHaveTheUnitsTheirNamesSay(t *testing.T) {
	bulk := load.Result{Bytes: 1 << 30, Elapsed: 2 * time.Second, CPU: 3}
	if got := gbits(bulk); got < 4.29 || got > 4.30 {
		t.Errorf("1 GiB in 2 s is %v Gbit/s", got)
	}
	if got := cpuPerGiB(bulk); got != 3 {
		t.Errorf("3 s for 1 GiB is %v s per GiB", got)
	}
	reqs := load.Result{Ops: 5000, Elapsed: 2 * time.Second, CPU: 1, P50: 1500 * time.Nanosecond}
	if got := perSecond(reqs); got != 2500 {
		t.Errorf("5000 in 2 s is %v per s", got)
	}
	if got := cpuPer10k(reqs); got != 2 {
		t.Errorf("1 s for 5000 is %v s per 10,000", got)
	}
	if got := micros(reqs.P50); got != 1.5 {
		t.Errorf("1500 ns is %v us", got)
	}
}

func TestAllNamesEachFigureOnceAndForBothPlaces(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range All(Sizes{Bytes: 1, Duration: time.Second}) {
		key := string(f.Where) + " " + f.Name
		if seen[key] || len(f.Values) == 0 {
			t.Errorf("%s: twice, or without values", key)
		}
		seen[key] = true
	}
	if len(seen) != 16 {
		t.Errorf("%d figures, want 16: %v", len(seen), seen)
	}
}

func TestRowComparesMediansOfAmbit(t *testing.T) {
	r := NewRow("f", CrossNode, "per_s", map[Path]stat.Series{NoMesh: {10, 20, 30}, Floor: {5}, Ambit: {4, 6, 5}})
	if r.ToNoMesh != 0.25 || r.ToFloor != 1 || r.Median[NoMesh] != 20 {
		t.Errorf("%+v", r)
	}
	var text strings.Builder
	r.Print(&text)
	if !strings.Contains(text.String(), "0.25") {
		t.Errorf("no ratio in %q", text.String())
	}
}
