package state

import (
	"sync"
	"sync/atomic"
)

// maxDerived bounds what one value remembers of what was computed from it; beyond that it is computed each time.
const maxDerived = 64

// Derived remembers values computed from immutable data, so that deciders need not repeat themselves. What is computed
// must depend on the data and the key only. Safe for concurrent use; two callers may both compute, one result stays.
type Derived struct {
	n      atomic.Int32
	values sync.Map
}

// Get returns the value for a key, computing it at most a few times.
func (d *Derived) Get(key any, compute func() any) any {
	if v, ok := d.values.Load(key); ok {
		return v
	}
	v := compute()
	if d.n.Load() >= maxDerived {
		return v
	}
	kept, loaded := d.values.LoadOrStore(key, v)
	if !loaded {
		d.n.Add(1)
	}
	return kept
}
