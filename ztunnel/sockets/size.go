package sockets

import "math"

// Bounds of one stock.
const (
	MinTCPStock = 16   // of each address family that the pod has
	MinUDPStock = 4    // only forwarded DNS queries take these
	MaxStock    = 1024 // of each pod and kind
	horizon     = 5.0  // seconds of the recent rate that a stock should last: an agent that restarts is away for about as long
)

// Demand is what sizing a stock takes into account.
type Demand struct {
	Floor   int     // at least so many, as far as the budget goes
	Target  int     // the size so far
	Rate    float64 // sockets taken per second, lately
	Starved bool    // somebody had to wait since the last sizing
}

// Size answers how many sockets each stock should hold so that the sum stays within budget. A stock lasts for the
// horizon at the recent rate, doubles when somebody had to wait, and shrinks by a quarter a step. When the budget does not suffice
// everybody gets the floor first and a share in proportion of the rest; when not even that, an equal share.
func Size(demands []Demand, budget int) []int {
	sizes := make([]int, len(demands))
	sum, floors := 0, 0
	for i, d := range demands {
		want := int(math.Ceil(d.Rate * horizon))
		if d.Starved {
			want = max(want, 2*d.Target)
		}
		sizes[i] = min(max(want, d.Target-(d.Target+3)/4, d.Floor), MaxStock)
		sum += sizes[i]
		floors += min(d.Floor, MaxStock)
	}
	if sum <= budget {
		return sizes
	}
	budget = max(budget, 0)
	if floors >= budget {
		for i, d := range demands {
			sizes[i] = min(d.Floor, budget/len(demands))
		}
		return sizes
	}
	for i, d := range demands {
		above := sizes[i] - d.Floor
		sizes[i] = d.Floor + above*(budget-floors)/(sum-floors)
	}
	return sizes
}

// NextRate folds the count of the last period (in seconds) into a rate: it rises at once and falls by a third a period.
func NextRate(rate float64, taken uint64, seconds float64) float64 {
	if seconds <= 0 {
		return rate
	}
	now := float64(taken) / seconds
	if now >= rate {
		return now
	}
	if rate = rate + (now-rate)/3; rate < 0.01 {
		return 0
	}
	return rate
}
