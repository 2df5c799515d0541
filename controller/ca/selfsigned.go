package ca

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

const (
	// rootLifetime is that of a self-signed root (Istio's figure).
	rootLifetime = 10 * 365 * 24 * time.Hour
	// poll is how often what is stored is looked at.
	poll = 30 * time.Second
	// storeTimeout bounds one access to the store.
	storeTimeout = 10 * time.Second
)

// SelfSignedConfig is what a SelfSigned needs. Windows.Overlap must be given.
type SelfSignedConfig struct {
	Store       Store
	TrustDomain string
	Windows     Windows
	Log         *slog.Logger
	Metrics     *AuthorityMetrics
	Now         func() time.Time

	RootLifetime time.Duration // of roots that are made; 0: ten years
	Poll         time.Duration // how often the store is looked at; 0: 30 s
}

// SelfSigned signs with a root that it made, or that Istio did: it is kept in a Store, the same for all replicas, and replaced
// in time or when an operator asks. It implements Signer.
type SelfSigned struct {
	cfg    SelfSignedConfig
	change changes

	mu   sync.Mutex // one access to the store at a time
	now  *stored    // guarded by mu; what signs is in change
	seen time.Time  // when now was last known to be what is stored; guarded by mu

	warned time.Time // Run's goroutine only
}

// OpenSelfSigned opens what is stored, and makes a root if there is nothing.
func OpenSelfSigned(ctx context.Context, cfg SelfSignedConfig) (*SelfSigned, error) {
	if cfg.RootLifetime == 0 {
		cfg.RootLifetime = rootLifetime
	}
	if cfg.Poll == 0 {
		cfg.Poll = poll
	}
	if cfg.Windows.Overlap <= 0 {
		return nil, errors.New("self-signed authority: no overlap of roots given")
	}
	s := &SelfSigned{cfg: cfg}
	for range 10 { // replicas that start together make one root
		data, version, err := cfg.Store.Load(ctx)
		if err != nil {
			return nil, fmt.Errorf("self-signed authority: %w", err)
		}
		if data == nil {
			if data, err = createRoot(cfg.TrustDomain, cfg.RootLifetime, cfg.Now()); err != nil {
				return nil, fmt.Errorf("self-signed authority: %w", err)
			}
			version, err = cfg.Store.Save(ctx, data, "")
			if errors.Is(err, ErrConflict) {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("self-signed authority: %w", err)
			}
			cfg.Log.Info("self-signed root made", "trust_domain", cfg.TrustDomain)
		}
		st, err := openStored(data, version, cfg.Now)
		if err != nil {
			return nil, fmt.Errorf("self-signed authority: %w", err)
		}
		s.use(st)
		return s, nil
	}
	return nil, fmt.Errorf("self-signed authority: %w", ErrConflict)
}

// Sign implements Signer. No certificate lives longer than roots overlap.
func (s *SelfSigned) Sign(ctx context.Context, r Request) (Chain, error) {
	r.Lifetime = min(r.Lifetime, s.cfg.Windows.Overlap)
	return s.change.get().Sign(ctx, r)
}

// Roots implements Signer: in a rotation, both roots.
func (s *SelfSigned) Roots() []byte { return s.change.get().Roots() }

// Changed implements Signer.
func (s *SelfSigned) Changed() <-chan struct{} { return s.change.next() }

// Expiry is when the root ends, and when the chain that signs does.
func (s *SelfSigned) Expiry() (root, chain time.Time) { return s.change.get().Expiry() }

// Phase is where a replacement of the root stands.
func (s *SelfSigned) Phase() Phase { return s.current().rotation.Phase }

func (s *SelfSigned) current() *stored {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

// Run follows what is stored until ctx ends. Every replica runs it.
func (s *SelfSigned) Run(ctx context.Context) error {
	return every(ctx, s.cfg.Poll, func() {
		if err := s.refresh(ctx, false); err != nil && ctx.Err() == nil {
			s.cfg.Metrics.failed()
			s.cfg.Log.Warn("stored authority cannot be used; the one in memory goes on signing", "err", err)
		}
		now := s.cfg.Now()
		if left, due := s.change.get().due(now, 0.1); due && now.Sub(s.warned) > time.Hour {
			s.warned = now
			s.cfg.Log.Warn("root ends soon and has not been replaced: is a replica the leader?", "left", left.Round(time.Minute))
		}
	})
}

// Lead replaces the root when it is due, until ctx ends. The leader runs it. distributed reports whether everybody who does not
// learn roots with certificates (the ConfigMaps, files) has been given the bundle; nil: there is nobody.
func (s *SelfSigned) Lead(ctx context.Context, distributed func(ctx context.Context, roots []byte) error) error {
	return every(ctx, s.cfg.Poll, func() {
		if err := s.advance(ctx, distributed); err != nil && ctx.Err() == nil {
			s.cfg.Metrics.failed()
			s.cfg.Log.Warn("root rotation does not advance; trying again", "err", err)
		}
	})
}

// advance takes the steps that are due.
func (s *SelfSigned) advance(ctx context.Context, distributed func(context.Context, []byte) error) error {
	if err := s.refresh(ctx, true); err != nil {
		return err
	}
	st := s.current()
	out := true
	if st.rotation.Phase == Distributing && st.rotation.Since.IsZero() && distributed != nil {
		if err := distributed(ctx, st.signs.Roots()); err != nil {
			out = false
			s.cfg.Log.Warn("new root is not distributed yet", "err", err)
		}
	}
	now := s.cfg.Now()
	what, why := st.rotation.next(st.facts(now, out), s.cfg.Windows)
	if what == stepNone {
		return nil
	}
	data, err := st.apply(what, why, s.cfg.TrustDomain, s.cfg.RootLifetime, now)
	if err != nil {
		return err
	}
	return s.save(ctx, data, st.version)
}

// save stores data in the place of a version, and uses it. Another replica that was first is no error: the next look sees it.
func (s *SelfSigned) save(ctx context.Context, data map[string][]byte, version string) error {
	st, err := openStored(data, "", s.cfg.Now) // what cannot be opened is not stored
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	st.version, err = s.cfg.Store.Save(ctx, data, version)
	if errors.Is(err, ErrConflict) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("store authority: %w", err)
	}
	s.useLocked(st)
	return nil
}

// refresh takes over what is stored, unless it would part the mesh. An authority that is gone is stored again: the mesh depends
// on it. So is one that was overwritten with another root, by the leader: see overwritten.go.
func (s *SelfSigned) refresh(ctx context.Context, leads bool) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	data, version, err := s.cfg.Store.Load(ctx)
	if err != nil {
		return err
	}
	if data == nil {
		s.cfg.Log.Error("stored authority is gone; storing the one in memory again")
		version, err = s.cfg.Store.Save(ctx, s.now.data, "")
		if err != nil {
			return fmt.Errorf("store authority again: %w", err)
		}
		data = s.now.data
	}
	if version == s.now.version {
		s.seen = s.cfg.Now()
		return nil
	}
	st, err := openStored(data, version, s.cfg.Now)
	if err != nil {
		return err
	}
	if now := s.cfg.Now(); takes(s.now, st, now.Sub(s.seen), s.cfg.Windows, now) {
		s.useLocked(st)
		return nil
	}
	if !leads {
		return errOverwritten
	}
	return s.adoptLocked(ctx, st)
}

// adoptLocked stores what this replica signs with again, with the root that it was overwritten with as the next one.
func (s *SelfSigned) adoptLocked(ctx context.Context, other *stored) error {
	data, err := adopt(s.now, other)
	if err != nil {
		return err
	}
	st, err := openStored(data, "", s.cfg.Now)
	if err != nil {
		return err
	}
	st.version, err = s.cfg.Store.Save(ctx, data, other.version)
	if errors.Is(err, ErrConflict) {
		return nil // the next look sees what it is now
	}
	if err != nil {
		return fmt.Errorf("store authority again: %w", err)
	}
	root, _ := other.signs.Expiry()
	s.cfg.Log.Warn("stored authority was overwritten with another root; the root of before signs on, and the other once everybody trusts it", "root_ends", root)
	s.useLocked(st)
	return nil
}

func (s *SelfSigned) use(st *stored) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.useLocked(st)
}

func (s *SelfSigned) useLocked(st *stored) {
	before := s.now
	s.now, s.seen = st, s.cfg.Now()
	s.change.set(st.signs)
	s.cfg.Metrics.phase(st.rotation.Phase)
	if before != nil && before.rotation.Phase != st.rotation.Phase {
		root, _ := st.signs.Expiry()
		s.cfg.Log.Info("root rotation is in its next phase", "phase", st.rotation.Phase.String(), "cause", string(st.rotation.Cause), "root_ends", root)
	}
}

// String names the phase in logs and metrics.
func (p Phase) String() string {
	if p == Stable {
		return "stable"
	}
	return string(p)
}

// every calls what now and then at each interval.
func every(ctx context.Context, interval time.Duration, what func()) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		what()
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
