package state

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
)

// Config is what a Store knows from the start.
type Config struct {
	// Node is this node's name; "" counts every workload as local.
	Node string
	// Network is the network this node is in.
	Network string
	// Ranges are those from which pods and services of the mesh get addresses, as far as known.
	Ranges []netip.Prefix
}

// Update is a set of changes that become visible together. Removals apply after additions.
type Update struct {
	Workloads []*Workload
	Services  []*Service
	// Policies replaces policies; one that is Broken does not replace a good one.
	Policies []*Policy

	RemovedWorkloads []string
	RemovedServices  []Key
	RemovedPolicies  []Key

	// Synced adds to the types that have arrived in full.
	Synced Types
}

// Store holds the current Snapshot. All methods may be called from any goroutine.
type Store struct {
	current atomic.Pointer[Snapshot]

	mu sync.Mutex
	b  *builder // guarded by mu
}

// NewStore makes an empty store.
func NewStore(cfg Config) *Store {
	s := &Store{b: newBuilder(cfg)}
	s.current.Store(s.b.build(&Snapshot{}))
	return s
}

// Load is the current snapshot, never nil.
func (s *Store) Load() *Snapshot { return s.current.Load() }

// Apply makes one new snapshot out of any number of updates, in order, and returns it. It takes over what the updates
// hold: the caller must not modify it later. Updates that change nothing publish nothing.
func (s *Store) Apply(updates ...*Update) *Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, u := range updates {
		s.b.apply(u)
	}
	old := s.current.Load()
	if !s.b.changed {
		return old
	}
	next := s.b.build(old)
	s.current.Store(next)
	close(old.replaced)
	return next
}

// Wait returns the first snapshot for which ok is true, or the current one and ctx's error. It does not poll.
func (s *Store) Wait(ctx context.Context, ok func(*Snapshot) bool) (*Snapshot, error) {
	for {
		snap := s.Load()
		if ok(snap) {
			return snap, nil
		}
		select {
		case <-snap.replaced:
		case <-ctx.Done():
			return snap, ctx.Err()
		}
	}
}

// WaitSynced waits for the first full synchronisation.
func (s *Store) WaitSynced(ctx context.Context) (*Snapshot, error) {
	return s.Wait(ctx, (*Snapshot).Synced)
}

// WaitLocal waits until a workload of this node is known, and returns it and the snapshot it is in.
func (s *Store) WaitLocal(ctx context.Context, k LocalKey) (*Workload, *Snapshot, error) {
	var w *Workload
	snap, err := s.Wait(ctx, func(snap *Snapshot) bool {
		w = snap.Local(k)
		return w != nil
	})
	return w, snap, err
}

// WaitJudgement waits until Judgement differs from the one given: until live connections are to be judged again.
func (s *Store) WaitJudgement(ctx context.Context, last uint64) (*Snapshot, error) {
	return s.Wait(ctx, func(snap *Snapshot) bool { return snap.judgement != last })
}
