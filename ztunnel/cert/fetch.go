package cert

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Run asks the CA for what is due until ctx ends. Callers that still wait then get ErrStopped.
func (s *Store) Run(ctx context.Context) error {
	var workers sync.WaitGroup
	defer workers.Wait()
	defer s.stop() // first, and it ends the fetches: that we stop is no failure of theirs
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		next := s.dispatch(context.WithoutCancel(ctx), &workers)
		if next.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(time.Until(next))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.wake:
		case <-timer.C:
		}
	}
}

func (s *Store) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	for _, e := range s.entries {
		s.dropLocked(e, ErrStopped)
	}
}

// dispatch starts as many due fetches as may run at once, the most urgent first, and says when the next one is due; zero
// when that depends on others (a fetch that ends, a new identity).
//
// It scans all entries: a node has as many identities as its pods have service accounts, and scans are rare.
func (s *Store) dispatch(ctx context.Context, workers *sync.WaitGroup) (next time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for s.fetching < s.cfg.Concurrency {
		e, later := s.pickLocked(now)
		if e == nil {
			return later
		}
		s.fetching++
		fetchCtx, cancel := context.WithTimeout(ctx, s.cfg.FetchTimeout)
		e.cancel = cancel
		workers.Go(func() {
			defer cancel()
			s.fetch(fetchCtx, e)
		})
	}
	return time.Time{}
}

// pickLocked is the most urgent due entry, or the time at which there will be one.
func (s *Store) pickLocked(now time.Time) (best *entry, later time.Time) {
	for _, e := range s.entries {
		switch {
		case e.cancel != nil: // under way
		case e.due.After(now):
			if later.IsZero() || e.due.Before(later) {
				later = e.due
			}
		case e.holders == 0 && e.isSettledLocked():
			// Nobody local has this identity: it was asked for once and is not worth renewing.
			s.dropLocked(e, ErrForgotten)
		case best == nil || e.priority > best.priority || e.priority == best.priority && e.due.Before(best.due):
			best = e
		}
	}
	return best, later
}

// fetch obtains one certificate and files the outcome.
func (s *Store) fetch(ctx context.Context, e *entry) {
	start := time.Now()
	crt, err := s.obtain(ctx, e)
	s.metrics.fetched(time.Since(start), err)
	if old := s.file(e, crt, err); old != nil && s.cfg.OnRotate != nil {
		s.cfg.OnRotate(crt)
	}
	s.poke()
}

func (s *Store) obtain(ctx context.Context, e *entry) (*Certificate, error) {
	key, csr, err := NewRequest(e.id)
	if err != nil {
		return nil, err
	}
	chain, err := s.cfg.Signer.CreateCertificate(ctx, csr, s.cfg.TTL, e.id)
	if err != nil {
		return nil, err
	}
	return Parse(e.id, key, chain, time.Now())
}

// file puts an outcome into the entry and returns the certificate it replaced, if it did.
func (s *Store) file(e *entry, crt *Certificate, err error) (replaced *Certificate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fetching--
	e.cancel = nil
	if s.entries[e.id] != e {
		return nil // forgotten meanwhile
	}
	now := time.Now()
	if err != nil {
		e.attempt++
		e.err = err
		var notAfter time.Time
		if e.cert != nil {
			notAfter = e.cert.NotAfter()
		}
		e.due = Next(now, time.Time{}, notAfter, e.attempt, s.cfg.Rand)
		s.cfg.Log.Warn("certificate not obtained", "identity", e.id.String(), "err", err, "attempt", e.attempt,
			"retry", e.due.Sub(now).Round(time.Millisecond).String(), "serving", e.validLocked(now))
		e.settleLocked()
		return nil
	}
	replaced = e.cert
	s.generation++
	crt.Generation = s.generation
	e.cert, e.err, e.attempt, e.priority = crt, nil, 0, Background
	e.due = Next(now, crt.Leaf().NotBefore, crt.NotAfter(), 0, s.cfg.Rand)
	s.cfg.Log.Info("certificate obtained", "identity", e.id.String(), "expires", crt.NotAfter(),
		"renew", e.due, "serial", fmt.Sprintf("%x", crt.Leaf().SerialNumber))
	e.settleLocked()
	return replaced
}
