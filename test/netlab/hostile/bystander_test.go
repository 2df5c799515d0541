package hostile

import (
	"bufio"
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/ambit-mesh/ambit/test/netlab"
)

// patience is the longest that a bystander may wait for an answer while others are attacked: two cores serve everything here.
const patience = 5 * time.Second

// bystander is a connection that has nothing to do with any attack and exchanges messages as long as the test lasts.
type bystander struct {
	name string

	mu        sync.Mutex
	exchanges int
	slowest   time.Duration
	err       error
}

// newBystander connects and exchanges until the test ends.
func newBystander(t *testing.T, from, to netlab.Pod) *bystander {
	t.Helper()
	conn, err := dial(t.Context(), from, at(to, echoPort), patience)
	must(t, err)
	b := &bystander{name: from.Name + " to " + to.Name}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer conn.Close()
		lines := bufio.NewReader(conn)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			start := time.Now()
			err := exchange(conn, lines, patience)
			b.mu.Lock()
			b.exchanges++
			b.slowest, b.err = max(b.slowest, time.Since(start)), err
			b.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return b
}

func (b *bystander) seen() (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.exchanges, b.err
}

// check wants the connection to have lived through what happened and to go on.
func (b *bystander) check(t *testing.T) {
	t.Helper()
	from, _ := b.seen()
	if err := netlab.Poll(t.Context(), patience, func() error {
		n, err := b.seen()
		if err == nil && n < from+3 {
			err = fmt.Errorf("%d exchanges more", n-from)
		}
		return err
	}); err != nil {
		t.Fatalf("bystander %s: %v", b.name, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	t.Logf("bystander %s: %d exchanges so far, the slowest took %s", b.name, b.exchanges, b.slowest.Round(time.Millisecond))
	b.slowest = 0
}
