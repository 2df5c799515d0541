package telemetry

import (
	"sync"
	"sync/atomic"
	"time"
)

// table finds the series of a key, makes it, and forgets those that nobody uses.
type table struct {
	max int
	ttl time.Duration

	overflowed atomic.Uint64 // connections counted in the overflow series
	expired    atomic.Uint64 // series forgotten

	mu       sync.RWMutex // held for reading while a connection joins a series, so that the series cannot be forgotten then
	all      map[key]*series
	overflow [2]*series // by reporter; made when needed
	pruned   time.Time
}

func newTable(max int, ttl time.Duration) *table {
	return &table{max: max, ttl: ttl, all: map[key]*series{}}
}

// open lets c join the series of k.
func (t *table) open(c *Conn, k key) {
	now := time.Now()
	t.mu.RLock()
	if s := t.all[k]; s != nil {
		c.ends = &s.key
		s.open(c, now)
		t.mu.RUnlock()
		return
	}
	t.mu.RUnlock()

	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.makeLocked(k, now)
	c.ends = &s.key
	if s.key != k { // the overflow: the log still wants the truth
		c.ends = &k
	}
	s.open(c, now)
}

func (t *table) makeLocked(k key, now time.Time) *series {
	if s := t.all[k]; s != nil {
		return s
	}
	if len(t.all) >= t.max {
		t.pruneLocked(now, time.Minute)
	}
	if len(t.all) < t.max {
		s := &series{key: k, used: now}
		t.all[k] = s
		return s
	}
	t.overflowed.Add(1)
	o := &t.overflow[k.Reporter&1]
	if *o == nil {
		*o = &series{key: overflowKey(k.Reporter), used: now}
	}
	return *o
}

// overflowKey says "overflow" wherever a label would say something.
func overflowKey(r Reporter) key {
	const o = overflowLabel
	end := End{Workload: o, Namespace: o, CanonicalService: o, CanonicalRevision: o, App: o, Cluster: o, Region: o, Zone: o}
	return key{Reporter: r, Source: end, Destination: end, Service: Service{Host: o, Namespace: o, Name: o}}
}

const overflowLabel = "overflow"

// pruneLocked forgets stale series, at most once per interval since it looks at all of them.
func (t *table) pruneLocked(now time.Time, interval time.Duration) {
	if now.Sub(t.pruned) < interval {
		return
	}
	t.pruned = now
	for k, s := range t.all {
		if s.staleAt(now, t.ttl) {
			delete(t.all, k)
			t.expired.Add(1)
		}
	}
}

// list prunes and returns what is left, for a scrape.
func (t *table) list() []*series {
	t.mu.Lock()
	t.pruneLocked(time.Now(), time.Second)
	all := make([]*series, 0, len(t.all)+len(t.overflow))
	for _, s := range t.all {
		all = append(all, s)
	}
	for _, s := range t.overflow {
		if s != nil {
			all = append(all, s)
		}
	}
	t.mu.Unlock()
	return all
}
