package fleet

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// arrivals knows how many clients have a revision, and when the last of them got it.
type arrivals struct {
	mu   sync.Mutex
	seen map[string]arrival
}

type arrival struct {
	clients int
	last    int64
}

func (a *arrivals) note(revision string, at int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.seen == nil {
		a.seen = map[string]arrival{}
	}
	n := a.seen[revision]
	a.seen[revision] = arrival{n.clients + 1, max(n.last, at)}
}

// last waits until all clients have the revision.
func (a *arrivals) last(ctx context.Context, revision string, clients int, failure func() error) (int64, error) {
	for {
		a.mu.Lock()
		n := a.seen[revision]
		a.mu.Unlock()
		if n.clients >= clients {
			return n.last, nil
		}
		if err := failure(); err != nil {
			return 0, err
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("%d of %d clients have revision %s: %w", n.clients, clients, revision, ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// known is the versions of everything, as a client that reconnects says them: encoded once for all clients.
type known struct {
	mu      sync.Mutex
	learned map[string]map[string]string // by type: name to version
	wire    map[string][]byte
}

func (k *known) learn(typeURL string, b []byte) error {
	r, err := parseResource(b)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.learned == nil {
		k.learned = map[string]map[string]string{}
	}
	m := k.learned[typeURL]
	if m == nil {
		m = map[string]string{}
		k.learned[typeURL] = m
	}
	if m[string(r.name)] != string(r.version) {
		m[string(r.name)] = string(r.version)
		k.wire = nil
	}
	return nil
}

func (k *known) encoded(typeURL string) []byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.wire == nil {
		k.wire = map[string][]byte{}
		for url, m := range k.learned {
			var b []byte
			for name, version := range m {
				b = initialVersion(b, []byte(name), []byte(version))
			}
			k.wire[url] = b
		}
	}
	return k.wire[typeURL]
}
