package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// Election says how replicas agree on one that writes.
type Election struct {
	Namespace, Name string // of the Lease
	Identity        string // of this replica; another for each
	// Duration is how long a lease outlives a leader that died; Renew is after how long without the API server a leader
	// stops writing, which must be less; Retry is the pace of trying. All zero: Kubernetes' usual 15, 10 and 2 s.
	Duration, Renew, Retry time.Duration
}

func (e Election) defaults() Election {
	if e.Duration == 0 {
		e.Duration, e.Renew, e.Retry = 15*time.Second, 10*time.Second, 2*time.Second
	}
	return e
}

// Elect runs the writers whenever this replica holds the lease, until ctx ends. Writers get a context that ends when the
// lease is lost; they are waited for, and run again when it is regained. A writer that fails ends Elect. At the end the
// lease is given back, after the last writer has stopped, so that another replica need not wait for it to run out.
func (c *Cluster) Elect(ctx context.Context, e Election, log *slog.Logger, m *Metrics, writers ...func(context.Context) error) error {
	e = e.defaults()
	lease := e.Namespace + "/" + e.Name
	inner, err := resourcelock.New(resourcelock.LeasesResourceLock, e.Namespace, e.Name, c.leases.CoreV1(), c.leases.CoordinationV1(),
		resourcelock.ResourceLockConfig{Identity: e.Identity})
	if err != nil {
		return fmt.Errorf("leader election: %w", err)
	}
	lock := &leaseLock{Interface: inner, log: log}
	ctx, cancel := context.WithCancel(quiet(ctx, log))
	defer cancel()
	ended := make(chan error, 1) // of the writers of a term
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: lock, LeaseDuration: e.Duration, RenewDeadline: e.Renew, RetryPeriod: e.Retry, Name: e.Name,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(term context.Context) {
				log.Info("this replica holds the lease and writes", "lease", lease)
				m.leader.Set(1)
				err := together(term, writers)
				m.leader.Set(0)
				if err != nil {
					cancel()
				}
				ended <- err
			},
			OnStoppedLeading: func() {},
		},
	})
	if err != nil {
		return fmt.Errorf("leader election: %w", err)
	}
	for ctx.Err() == nil {
		lock.held = false
		elector.Run(ctx) // until the lease is lost
		if !lock.held {
			continue
		}
		if err := <-ended; err != nil {
			return errors.Join(err, lock.giveBack(ctx, e))
		}
		if ctx.Err() == nil {
			log.Warn("the lease is lost; this replica writes no more and serves on", "lease", lease)
		}
	}
	if !lock.held {
		return nil
	}
	if err := lock.giveBack(ctx, e); err != nil {
		log.Info("the lease cannot be given back; it runs out", "lease", lease, "err", err)
	}
	return nil
}

// together runs the writers until ctx ends, or one fails.
func together(ctx context.Context, writers []func(context.Context) error) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, w := range writers {
		group.Go(func() error { return w(ctx) })
	}
	group.Go(func() error { <-ctx.Done(); return nil }) // a term lasts even if no writer does
	if err := group.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("leader's work: %w", err)
	}
	return nil
}

// leaseLock notices that the lease was got: a term that was lost before its callback ran looks like none otherwise. It is used by
// one goroutine. It says once, and again after a success, why the lease cannot be had.
type leaseLock struct {
	resourcelock.Interface
	log     *slog.Logger
	held    bool
	failing bool
}

// Get implements resourcelock.Interface.
func (l *leaseLock) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	record, text, err := l.Interface.Get(ctx)
	l.outcome(ctx, err)
	return record, text, err
}

// Create implements resourcelock.Interface.
func (l *leaseLock) Create(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	err := l.Interface.Create(ctx, r)
	l.outcome(ctx, err)
	return err
}

// Update implements resourcelock.Interface.
func (l *leaseLock) Update(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	err := l.Interface.Update(ctx, r)
	l.outcome(ctx, err)
	return err
}

func (l *leaseLock) outcome(ctx context.Context, err error) {
	switch {
	case err == nil:
		l.failing = false
	case l.failing, ctx.Err() != nil, apierrors.IsNotFound(err), apierrors.IsConflict(err), apierrors.IsAlreadyExists(err):
	default:
		l.failing = true
		l.log.Warn("lease cannot be read or written; trying again", "lease", l.Describe(), "err", err)
	}
}

// RecordEvent implements resourcelock.Interface; the elector tells it of each step.
func (l *leaseLock) RecordEvent(text string) {
	if text == "became leader" {
		l.held = true
	}
	l.Interface.RecordEvent(text)
}

// giveBack frees the lease if it is still ours. client-go would do so before the writers have stopped.
func (l *leaseLock) giveBack(ctx context.Context, e Election) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), e.Retry)
	defer cancel()
	record, _, err := l.Get(ctx)
	if err != nil {
		return fmt.Errorf("lease: %w", err)
	}
	if record.HolderIdentity != e.Identity {
		return nil
	}
	record.HolderIdentity, record.LeaseDurationSeconds = "", 1
	if err := l.Update(ctx, *record); err != nil {
		return fmt.Errorf("lease: %w", err)
	}
	return nil
}
