// Package hamt answers how a large index can change a little and stay immutable: a persistent hash trie, in which a
// change copies one path of small nodes and shares everything else.
//
// A Map is a value: once published it never changes and may be read from any goroutine. Changes go through an Editor,
// which one goroutine owns; it edits nodes in place that it made itself, so that a burst costs no more than needed.
package hamt

import (
	"hash/maphash"
	"iter"
	"math/bits"
)

// 32-way nodes: five bits of the hash a level; below the last level, keys of equal hash share an unsorted list.
const (
	width    = 5
	maxDepth = 64/width + 1
)

// Map is an immutable map from K to V. The zero value is empty.
type Map[K comparable, V any] struct {
	root *node[K, V]
	size int
}

type entry[K comparable, V any] struct {
	key   K
	value V
}

// node holds entries and children in two compact arrays, each indexed by a bitmap. At maxDepth the entries are a plain
// list and the bitmaps unused.
type node[K comparable, V any] struct {
	entryBits, childBits uint32
	owner                uint64 // the editor that may change it in place
	entries              []entry[K, V]
	children             []*node[K, V]
}

// seed is the same for the life of the process: maps of one process share structure, none outlives it.
var seed = maphash.MakeSeed()

func hash[K comparable](k K) uint64 { return maphash.Comparable(seed, k) }

func slot(h uint64, depth int) uint32 { return 1 << (h >> (depth * width) & (1<<width - 1)) }

func index(bitmap, bit uint32) int { return bits.OnesCount32(bitmap & (bit - 1)) }

// Len is the number of keys.
func (m Map[K, V]) Len() int { return m.size }

// Get finds the value of a key.
func (m Map[K, V]) Get(k K) (V, bool) {
	h := hash(k)
	n := m.root
	for depth := 0; n != nil; depth++ {
		if depth >= maxDepth {
			for i := range n.entries {
				if n.entries[i].key == k {
					return n.entries[i].value, true
				}
			}
			break
		}
		bit := slot(h, depth)
		if n.entryBits&bit != 0 {
			e := &n.entries[index(n.entryBits, bit)]
			if e.key == k {
				return e.value, true
			}
			break
		}
		if n.childBits&bit == 0 {
			break
		}
		n = n.children[index(n.childBits, bit)]
	}
	var zero V
	return zero, false
}

// All yields every pair, in no particular order.
func (m Map[K, V]) All() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) { m.root.all(yield) }
}

func (n *node[K, V]) all(yield func(K, V) bool) bool {
	if n == nil {
		return true
	}
	for i := range n.entries {
		if !yield(n.entries[i].key, n.entries[i].value) {
			return false
		}
	}
	for _, c := range n.children {
		if !c.all(yield) {
			return false
		}
	}
	return true
}
