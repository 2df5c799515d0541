package cert

import (
	"math"
	"time"
)

const (
	// backoffFirst, backoffCap: how long to wait after the first failure and at most (Istio's figures).
	backoffFirst = time.Second
	backoffCap   = 150 * time.Second
	// backoffJitter and renewJitter are fractions to either side, so that a node's, and all nodes', requests spread.
	backoffJitter = 0.2
	renewJitter   = 0.1
	// renewFloor keeps a CA that issues certificates of no useful life from being asked in a tight loop.
	renewFloor = time.Second
)

// Next is when to ask the CA again. A zero notAfter means that there is no certificate. attempt is the number of failures
// since the last success: 0 asks for the renewal. rand gives numbers in [0, 1).
//
// Renewal is at half life, ±10 %. CAs date certificates back; where half life has passed already it is half of what is
// left. A failed attempt is repeated after 1 s, 2 s, 4 s and so on up to 150 s, ±20 %, or at expiry if that is sooner,
// for that is when the answer to callers changes.
func Next(now, notBefore, notAfter time.Time, attempt int, rand func() float64) time.Time {
	if attempt > 0 {
		at := now.Add(backoff(attempt, rand))
		if notAfter.After(now) && notAfter.Before(at) {
			return notAfter
		}
		return at
	}
	if notAfter.IsZero() {
		return now
	}
	at := notBefore.Add(jitter(notAfter.Sub(notBefore)/2, renewJitter, rand))
	if !at.After(now) {
		at = now.Add(jitter(notAfter.Sub(now)/2, renewJitter, rand))
	}
	if floor := now.Add(renewFloor); at.Before(floor) {
		return floor
	}
	return at
}

// backoff is the wait after the attempt-th failure in a row.
func backoff(attempt int, rand func() float64) time.Duration {
	d := float64(backoffFirst) * math.Pow(2, float64(min(attempt, 32)-1))
	return min(jitter(time.Duration(min(d, float64(backoffCap))), backoffJitter, rand), backoffCap)
}

// jitter is d, up to the given fraction shorter or longer.
func jitter(d time.Duration, fraction float64, rand func() float64) time.Duration {
	return time.Duration(float64(d) * (1 + fraction*(2*rand()-1)))
}
