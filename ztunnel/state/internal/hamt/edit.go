package hamt

import (
	"slices"
	"sync/atomic"
)

// editors numbers the editors of the process, so that no node is taken for one's own by mistake. It is not state: only
// that the numbers differ matters.
var editors atomic.Uint64

// Editor makes the next version of a Map. It belongs to one goroutine.
type Editor[K comparable, V any] struct {
	m    Map[K, V]
	id   uint64
	hash func(K) uint64
}

// Edit starts from a map, which stays as it is.
func Edit[K comparable, V any](m Map[K, V]) *Editor[K, V] {
	return &Editor[K, V]{m: m, id: editors.Add(1), hash: hash[K]}
}

// Get finds a value in the version being made.
func (e *Editor[K, V]) Get(k K) (V, bool) { return e.m.Get(k) }

// Len is the number of keys in the version being made.
func (e *Editor[K, V]) Len() int { return e.m.size }

// Map publishes what was made so far; later edits do not change it.
func (e *Editor[K, V]) Map() Map[K, V] {
	e.id = editors.Add(1) // what exists now is nobody's any more
	return e.m
}

// Set adds or replaces a key.
func (e *Editor[K, V]) Set(k K, v V) {
	if e.m.root == nil {
		e.m.root = &node[K, V]{owner: e.id}
	}
	root, added := e.set(e.m.root, entry[K, V]{k, v}, e.hash(k), 0)
	e.m.root = root
	if added {
		e.m.size++
	}
}

func (e *Editor[K, V]) set(n *node[K, V], put entry[K, V], h uint64, depth int) (*node[K, V], bool) {
	n = e.own(n)
	if depth >= maxDepth {
		for i := range n.entries {
			if n.entries[i].key == put.key {
				n.entries[i] = put
				return n, false
			}
		}
		n.entries = grow(n.entries, len(n.entries), put)
		return n, true
	}
	bit := slot(h, depth)
	switch {
	case n.childBits&bit != 0:
		i := index(n.childBits, bit)
		child, added := e.set(n.children[i], put, h, depth+1)
		n.children[i] = child
		return n, added
	case n.entryBits&bit == 0:
		n.entries = grow(n.entries, index(n.entryBits, bit), put)
		n.entryBits |= bit
		return n, true
	}
	i := index(n.entryBits, bit)
	if n.entries[i].key == put.key {
		n.entries[i] = put
		return n, false
	}
	// Two keys in one slot: both move a level down.
	old := n.entries[i]
	child := &node[K, V]{owner: e.id}
	child, _ = e.set(child, old, e.hash(old.key), depth+1)
	child, _ = e.set(child, put, h, depth+1)
	n.entries = shrink(n.entries, i)
	n.entryBits &^= bit
	n.children = grow(n.children, index(n.childBits, bit), child)
	n.childBits |= bit
	return n, true
}

// Delete removes a key if it is there.
func (e *Editor[K, V]) Delete(k K) {
	if _, ok := e.m.Get(k); !ok {
		return
	}
	e.m.root = e.remove(e.m.root, k, e.hash(k), 0)
	e.m.size--
}

// remove takes out a key that is known to be there. A child left with a single entry moves up, so that a map's shape
// depends only on its keys.
func (e *Editor[K, V]) remove(n *node[K, V], k K, h uint64, depth int) *node[K, V] {
	n = e.own(n)
	if depth >= maxDepth {
		i := slices.IndexFunc(n.entries, func(x entry[K, V]) bool { return x.key == k })
		n.entries = shrink(n.entries, i)
		return n
	}
	bit := slot(h, depth)
	if n.entryBits&bit != 0 {
		n.entries = shrink(n.entries, index(n.entryBits, bit))
		n.entryBits &^= bit
		return n
	}
	i := index(n.childBits, bit)
	child := e.remove(n.children[i], k, h, depth+1)
	if len(child.children) > 0 || len(child.entries) > 1 {
		n.children[i] = child
		return n
	}
	last := child.entries[0]
	n.children = shrink(n.children, i)
	n.childBits &^= bit
	n.entries = grow(n.entries, index(n.entryBits, bit), last)
	n.entryBits |= bit
	return n
}

// own is the node itself if this editor made it, else a copy that this editor may change.
func (e *Editor[K, V]) own(n *node[K, V]) *node[K, V] {
	if n.owner == e.id {
		return n
	}
	c := *n
	c.owner = e.id
	c.entries = slices.Clone(n.entries)
	c.children = slices.Clone(n.children)
	return &c
}

// grow inserts into an array of exactly the needed length: these arrays are many, live long, and are small.
func grow[T any](old []T, i int, v T) []T {
	next := make([]T, len(old)+1)
	copy(next, old[:i])
	next[i] = v
	copy(next[i+1:], old[i:])
	return next
}

func shrink[T any](old []T, i int) []T {
	if len(old) == 1 {
		return nil
	}
	next := make([]T, len(old)-1)
	copy(next, old[:i])
	copy(next[i:], old[i+1:])
	return next
}
