package hbone

import (
	"time"

	"golang.org/x/net/http2"
)

// What a peer pays for frames that cost us work and carry nothing. A connection may spend guardBurst at once and
// guardRate a second; who spends more is flooding (CVE-2019-9512, -9515, -9518, CVE-2023-44487, CVE-2024-27316).
const (
	costControl    = 1  // PING, SETTINGS, PRIORITY, empty or padded DATA, unknown frames
	costIgnored    = 1  // DATA for a stream that we reset
	costRefused    = 5  // CONNECT over the limit
	costError      = 20 // stream error
	costEarlyReset = 20 // CONNECT reset before it was answered
	guardBurst     = 10_000
	guardRate      = 1_000
)

// guard is a token bucket, owned by the reading goroutine.
type guard struct {
	tokens int
	at     time.Time
}

func (g *guard) init() { g.tokens = guardBurst }

// spend charges cost and fails once nothing is left.
func (g *guard) spend(cost int) error {
	g.tokens -= cost
	if g.tokens >= guardBurst/2 {
		return nil // far from the limit: do not even ask for the time
	}
	now := time.Now()
	if !g.at.IsZero() {
		g.tokens = int(min(int64(guardBurst), int64(g.tokens)+int64(min(now.Sub(g.at), time.Minute))*guardRate/int64(time.Second)))
	}
	g.at = now
	if g.tokens < 0 {
		return &connFailure{http2.ErrCodeEnhanceYourCalm, "flood of frames without data"}
	}
	return nil
}
