package cert

import (
	"context"
	"fmt"
	"time"

	"github.com/ambit-mesh/ambit/controller/api/spiffe"
)

// Priority orders requests to the CA that are due at once.
type Priority int

const (
	// Background is a renewal.
	Background Priority = iota
	// Warmup is a first certificate that nobody waits for yet.
	Warmup
	// RealTime is one that a connection waits for.
	RealTime
)

func (p Priority) String() string {
	switch p {
	case Background:
		return "background"
	case Warmup:
		return "warmup"
	case RealTime:
		return "realtime"
	}
	return fmt.Sprintf("priority %d", int(p))
}

// entry is one identity. All fields but id are guarded by the store's mu.
type entry struct {
	id       spiffe.ID
	holders  int
	priority Priority
	due      time.Time          // when to ask the CA
	attempt  int                // failures since the last success
	cancel   context.CancelFunc // of the fetch under way; nil when there is none

	cert    *Certificate  // the last one obtained; nil before
	err     error         // why the last attempt failed; nil after a success
	settled chan struct{} // closed once there is something to say
}

func newEntry(id spiffe.ID, now time.Time) *entry {
	return &entry{id: id, due: now, settled: make(chan struct{})}
}

func (e *entry) isSettledLocked() bool {
	select {
	case <-e.settled:
		return true
	default:
		return false
	}
}

func (e *entry) settleLocked() {
	if !e.isSettledLocked() {
		close(e.settled)
	}
}

// validLocked: half open, as x509 has it: a certificate is still valid at NotAfter itself.
func (e *entry) validLocked(now time.Time) bool {
	return e.cert != nil && !now.After(e.cert.NotAfter())
}

// staleLocked: had a certificate, let it expire, and no attempt has failed since.
func (e *entry) staleLocked(now time.Time) bool {
	return e.cert != nil && e.err == nil && !e.validLocked(now) && e.isSettledLocked()
}

// restartLocked makes the entry as if it had never had a certificate.
func (e *entry) restartLocked(now time.Time) {
	e.cert, e.due, e.settled = nil, now, make(chan struct{})
}

// resultLocked is what a caller gets of a settled entry.
func (e *entry) resultLocked(now time.Time) (*Certificate, error) {
	switch {
	case e.validLocked(now):
		return e.cert, nil
	case e.err != nil:
		return nil, fmt.Errorf("certificate of %s: %w: %w", e.id, ErrUnavailable, e.err)
	default:
		return nil, fmt.Errorf("certificate of %s: %w", e.id, ErrUnavailable)
	}
}
