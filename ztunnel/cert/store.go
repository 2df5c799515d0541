package cert

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ambit-mesh/ambit/controller/api/spiffe"
)

// Why Get has nothing to give. The CA's own answer is wrapped beside ErrUnavailable.
var (
	ErrUnavailable = errors.New("certificate unavailable")
	ErrForgotten   = errors.New("identity is not needed on this node any more")
	ErrTooMany     = errors.New("too many identities")
	ErrStopped     = errors.New("certificate store has stopped")
)

// Config is what a Store needs. Zero durations and numbers mean the defaults named.
type Config struct {
	Signer Signer
	Log    *slog.Logger
	// Registerer receives the store's own metrics; nil keeps them to itself.
	Registerer prometheus.Registerer
	// TTL is the validity to ask for: 24 h.
	TTL time.Duration
	// Concurrency bounds calls to the CA at a time: 8.
	Concurrency int
	// FetchTimeout bounds one call: 10 s.
	FetchTimeout time.Duration
	// MaxIdentities bounds the entries: 10,000. Over it, Get fails with ErrTooMany.
	MaxIdentities int
	// Rand gives numbers in [0, 1) for jitter, from one goroutine at a time: math/rand.
	Rand func() float64
	// OnRotate is told of each certificate that replaces another one of the same identity, so that a pool can let go of
	// connections made with the old one. Called without locks from a goroutine of Run, possibly several at once. May be nil.
	OnRotate func(*Certificate)
}

// Store keeps one certificate per identity.
type Store struct {
	cfg     Config
	metrics *metrics
	wake    chan struct{} // one token: something changed, look again

	mu         sync.Mutex
	entries    map[spiffe.ID]*entry
	fetching   int
	generation uint64
	stopped    bool
}

// New makes a Store; Run makes it work.
func New(cfg Config) (*Store, error) {
	if cfg.Signer == nil || cfg.Log == nil {
		return nil, errors.New("certificate store: signer and log are required")
	}
	def(&cfg.TTL, 24*time.Hour)
	def(&cfg.Concurrency, 8)
	def(&cfg.FetchTimeout, 10*time.Second)
	def(&cfg.MaxIdentities, 10_000)
	if cfg.Rand == nil {
		cfg.Rand = rand.Float64
	}
	s := &Store{cfg: cfg, wake: make(chan struct{}, 1), entries: map[spiffe.ID]*entry{}}
	m, err := newMetrics(cfg.Registerer, s)
	if err != nil {
		return nil, fmt.Errorf("certificate store: %w", err)
	}
	s.metrics = m
	return s, nil
}

func def[T time.Duration | int](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

// Get is the certificate of id, for a connection that needs it now. It waits for a first fetch that is under way (all
// callers share it) as long as ctx allows. Where the CA has refused, it fails at once with ErrUnavailable until a later
// retry succeeds, so that connections do not pile up behind an absent CA.
func (s *Store) Get(ctx context.Context, id spiffe.ID) (*Certificate, error) {
	s.mu.Lock()
	e, err := s.entryLocked(id)
	if err != nil {
		s.mu.Unlock()
		return nil, err
	}
	now := time.Now()
	if e.staleLocked(now) {
		// Expired without a failed renewal: the clock jumped or the machine slept. Ask again before giving up.
		e.restartLocked(now)
	}
	if e.isSettledLocked() {
		defer s.mu.Unlock()
		return e.resultLocked(now)
	}
	s.bumpLocked(e, RealTime)
	settled := e.settled
	s.mu.Unlock()
	s.poke()

	select {
	case <-settled:
	case <-ctx.Done():
		return nil, fmt.Errorf("certificate of %s: %w", id, context.Cause(ctx))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return e.resultLocked(time.Now())
}

// Current is the certificate of id if there is a valid one at hand. It never waits and asks nobody.
func (s *Store) Current(id spiffe.ID) (*Certificate, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[id]
	if e == nil || !e.validLocked(time.Now()) {
		return nil, false
	}
	return e.cert, true
}

// Hold says that a local workload has the identity id: its certificate is fetched ahead of need and renewed until the
// last holder calls its release function (which may be called more than once).
func (s *Store) Hold(id spiffe.ID) (release func()) {
	s.mu.Lock()
	e, err := s.entryLocked(id)
	if err != nil {
		s.mu.Unlock()
		s.cfg.Log.Warn("identity not prefetched", "identity", id.String(), "err", err)
		return func() {}
	}
	e.holders++
	s.bumpLocked(e, Warmup)
	s.mu.Unlock()
	s.poke()
	return sync.OnceFunc(func() { s.release(e) })
}

func (s *Store) release(e *entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.holders--; e.holders == 0 && s.entries[e.id] == e {
		s.dropLocked(e, ErrForgotten)
	}
}

// entryLocked finds or makes the entry of id.
func (s *Store) entryLocked(id spiffe.ID) (*entry, error) {
	if s.stopped {
		return nil, ErrStopped
	}
	if e := s.entries[id]; e != nil {
		return e, nil
	}
	if err := id.Validate(); err != nil {
		return nil, fmt.Errorf("certificate of %q: %w", id.String(), err)
	}
	if len(s.entries) >= s.cfg.MaxIdentities {
		s.metrics.refused.Inc()
		return nil, fmt.Errorf("certificate of %s: %w: %d", id, ErrTooMany, len(s.entries))
	}
	e := newEntry(id, time.Now())
	s.entries[id] = e
	return e, nil
}

// bumpLocked raises the priority of an entry that waits for its turn.
func (s *Store) bumpLocked(e *entry, p Priority) {
	if !e.isSettledLocked() {
		e.priority = max(e.priority, p)
	}
}

// dropLocked forgets an entry; callers that wait for it get why.
func (s *Store) dropLocked(e *entry, why error) {
	delete(s.entries, e.id)
	if e.cancel != nil {
		e.cancel()
	}
	e.cert, e.err = nil, why
	e.settleLocked()
}

// poke makes Run look again.
func (s *Store) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}
