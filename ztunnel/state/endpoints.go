package state

import (
	"slices"
	"strings"
)

// Endpoints are the workloads of one service: all of them, healthy or not. Immutable. A nil value is empty.
type Endpoints struct {
	list    []*Workload // sorted by UID
	derived Derived
}

// All lists the endpoints sorted by UID. Do not modify it.
func (e *Endpoints) All() []*Workload {
	if e == nil {
		return nil
	}
	return e.list
}

// Len is the number of endpoints.
func (e *Endpoints) Len() int { return len(e.All()) }

// Derive remembers what load balancing computes from the endpoints and their service; it starts anew whenever one of
// them changes.
func (e *Endpoints) Derive(key any, compute func() any) any {
	if e == nil {
		return compute()
	}
	return e.derived.Get(key, compute)
}

// Find is the endpoint of that UID, or nil.
func (e *Endpoints) Find(uid string) *Workload {
	list := e.All()
	i, ok := slices.BinarySearchFunc(list, uid, compareUID)
	if !ok {
		return nil
	}
	return list[i]
}

func compareUID(w *Workload, uid string) int { return strings.Compare(w.UID, uid) }

// merge applies changes (nil removes) to a sorted list and returns a new one.
func merge(old []*Workload, changes map[string]*Workload) []*Workload {
	put := make([]*Workload, 0, len(changes))
	for _, w := range changes {
		if w != nil {
			put = append(put, w)
		}
	}
	slices.SortFunc(put, func(a, b *Workload) int { return strings.Compare(a.UID, b.UID) })
	next := make([]*Workload, 0, len(old)+len(put))
	for _, w := range old {
		for len(put) > 0 && put[0].UID < w.UID {
			next, put = append(next, put[0]), put[1:]
		}
		if _, changed := changes[w.UID]; changed {
			continue // its new value, if any, comes by itself
		}
		next = append(next, w)
	}
	next = append(next, put...)
	if cap(next)-len(next) > len(next)/8+8 {
		next = slices.Clip(slices.Clone(next))
	}
	return next
}
