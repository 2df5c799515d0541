// Package fleet is the nodes' side of the controller's benchmark: many real xDS clients over TLS in one process of their own,
// which notes when what arrived at the last of them.
//
// It is written to cost little, so that what is measured on the same machine is the controller: responses are counted, not
// decoded, but for the changes whose arrival is timed. The rig drives it through Serve's lines of JSON.
package fleet

import (
	"context"
	"crypto"
	"crypto/x509"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/ambit-mesh/ambit/test/bench/controller/synth"
)

const tokenLife = time.Hour

func now() time.Time { return time.Now() }

// Now is the machine's monotonic clock in nanoseconds, the same in every process.
func Now() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err) // every Linux has it
	}
	return ts.Nano()
}

// Config says where the controller is and what it has.
type Config struct {
	Address, ServerName string
	Addresses, Policies int // a client has the first state when it has as many
}

// Fleet is the connected clients.
type Fleet struct {
	cfg      Config
	roots    *x509.CertPool
	key      crypto.Signer
	known    known
	arrivals arrivals

	clients []*client
	running errgroup.Group
	life    context.Context
	cancel  context.CancelFunc
	mu      sync.Mutex
	failed  error // of the first client that lost its stream
}

// New makes a fleet without clients. key signs their tokens.
func New(cfg Config, roots []byte, key crypto.Signer) (*Fleet, error) {
	pool, err := rootPool(roots)
	if err != nil {
		return nil, err
	}
	return &Fleet{cfg: cfg, roots: pool, key: key}, nil
}

// Connected is what connecting some clients took.
type Connected struct {
	Took  time.Duration // until the last had everything
	Bytes int64         // received by all of them, responses only
}

// Connect adds n clients at once, and waits until each has the whole first state. known clients bring along the versions of
// everything an earlier client was sent.
func (f *Fleet) Connect(ctx context.Context, n int, known bool) (Connected, error) {
	var fresh []*client
	for range n {
		c, err := f.dial(synth.Node(len(f.clients)))
		if err != nil {
			return Connected{}, err
		}
		c.first = len(f.clients) == 0
		f.clients = append(f.clients, c)
		fresh = append(fresh, c)
	}
	if f.life == nil {
		f.life, f.cancel = context.WithCancel(context.WithoutCancel(ctx)) // ends with Close, not with the command
	}
	life := f.life
	begin := time.Now()
	for _, c := range fresh {
		f.running.Go(func() error {
			err := c.run(life, known)
			if life.Err() == nil {
				f.fail(fmt.Errorf("client of %s: %w", c.node, err))
			}
			return nil
		})
	}
	var out Connected
	for _, c := range fresh {
		if err := f.wait(ctx, c.whole); err != nil {
			return out, err
		}
	}
	out.Took = time.Since(begin)
	for _, c := range fresh {
		out.Bytes += c.bytes.Load()
	}
	return out, nil
}

// Bytes is what all clients have received.
func (f *Fleet) Bytes() (n int64) {
	for _, c := range f.clients {
		n += c.bytes.Load()
	}
	return n
}

// Arrived waits until the last client has each of the revisions, and says when it had, in the order given.
func (f *Fleet) Arrived(ctx context.Context, revisions []string) ([]int64, error) {
	out := make([]int64, len(revisions))
	for i, rev := range revisions {
		at, err := f.arrivals.last(ctx, rev, len(f.clients), f.failure)
		if err != nil {
			return nil, err
		}
		out[i] = at
	}
	return out, nil
}

// Close ends all clients.
func (f *Fleet) Close() error {
	if f.life == nil {
		return nil
	}
	f.cancel()
	f.life = nil
	for _, c := range f.clients {
		if err := c.conn.Close(); err != nil {
			return err
		}
	}
	f.clients = nil
	return f.running.Wait()
}

func (f *Fleet) wait(ctx context.Context, done <-chan struct{}) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			if err := f.failure(); err != nil {
				return err
			}
		}
	}
}

func (f *Fleet) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failed == nil {
		f.failed = err
	}
}

func (f *Fleet) failure() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failed
}
