package sockets

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func TestSize(t *testing.T) {
	floor := Demand{Floor: MinTCPStock, Target: MinTCPStock}
	for _, tc := range []struct {
		name    string
		demands []Demand
		budget  int
		want    []int
	}{
		{"nobody", nil, 100, []int{}},
		{"idle pods keep the floor", []Demand{floor, floor}, 100, []int{16, 16}},
		{"a busy pod gets five seconds of its rate", []Demand{{Floor: 16, Target: 16, Rate: 60}, floor}, 1000, []int{300, 16}},
		{"never over the maximum", []Demand{{Floor: 16, Target: 1000, Rate: 1e6, Starved: true}}, 1e6, []int{MaxStock}},
		{"starved doubles", []Demand{{Floor: 16, Target: 100, Rate: 1, Starved: true}}, 1e6, []int{200}},
		{"shrinks by a quarter", []Demand{{Floor: 16, Target: 100}}, 1e6, []int{75}},
		{"shrinks to the floor and no further", []Demand{{Floor: 16, Target: 17}}, 1e6, []int{16}},
		{"budget shared above the floors", []Demand{{Floor: 16, Target: 16, Rate: 23.2}, {Floor: 16, Target: 16, Rate: 43.2}}, 332 - 150, []int{66, 116}},
		{"budget below the floors", []Demand{floor, floor, floor, floor}, 40, []int{10, 10, 10, 10}},
		{"no budget", []Demand{floor}, 0, []int{0}},
		{"less than no budget", []Demand{floor}, -5, []int{0}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := Size(tc.demands, tc.budget); !slices.Equal(got, tc.want) {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}

// Whatever the demand: within the budget, within the bounds, and nobody below the floor while the budget covers all floors.
func TestSizeBounds(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		demands := make([]Demand, rng.IntN(60))
		floors := 0
		for i := range demands {
			demands[i] = Demand{
				Floor: []int{MinUDPStock, MinTCPStock}[rng.IntN(2)], Target: rng.IntN(MaxStock + 1),
				Rate: rng.ExpFloat64() * 500, Starved: rng.IntN(3) == 0,
			}
			floors += demands[i].Floor
		}
		budget := rng.IntN(20000) - 10
		sum := 0
		for i, n := range Size(demands, budget) {
			if n < 0 || n > MaxStock || (budget >= floors && n < demands[i].Floor) {
				t.Fatalf("stock %d of %+v with budget %d is %d", i, demands, budget, n)
			}
			sum += n
		}
		if sum > max(budget, 0) {
			t.Fatalf("%+v: %d sockets with budget %d", demands, sum, budget)
		}
	}
}

func TestNextRate(t *testing.T) {
	if got := NextRate(10, 500, 1); got != 500 {
		t.Errorf("a rate rises at once: got %v", got)
	}
	if got := NextRate(300, 0, 1); got != 200 {
		t.Errorf("and falls by a third: got %v", got)
	}
	rate := 1000.0
	for range 60 {
		rate = NextRate(rate, 0, 1)
	}
	if rate != 0 {
		t.Errorf("a quiet minute ends at %v, want 0", rate)
	}
	if got := NextRate(7, 3, 0); got != 7 {
		t.Errorf("no time passed: got %v", got)
	}
}
