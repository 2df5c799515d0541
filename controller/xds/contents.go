package xds

import "math/bits"

// contents is which names have which versions in a type, in a form in which a client's list of what it holds is compared in
// one pass over that list: looking up each name would cost cache misses for every resource of every client that reconnects.
//
// Pairs of name and version are known by 64-bit hashes of a seed of this process: nobody can choose what collides, and if
// two do by chance, a client may miss a resource until that changes.
type contents struct {
	sum   uint64            // of all pairs' hashes, whatever their order
	slots []*entry          // nil where free
	free  []uint32          // slots
	at    map[uint64]uint32 // slot by hash
}

func (e *entry) hash() uint64 { return hashPair(e.name, e.version) }

// put gives e a slot.
func (c *contents) put(e *entry) {
	if n := len(c.free); n > 0 {
		e.slot, c.free = c.free[n-1], c.free[:n-1]
		c.slots[e.slot] = e
	} else {
		e.slot = uint32(len(c.slots))
		c.slots = append(c.slots, e)
	}
	h := e.hash()
	c.sum += h
	if c.at == nil {
		c.at = map[uint64]uint32{}
	}
	c.at[h] = e.slot
}

// drop takes e's slot.
func (c *contents) drop(e *entry) {
	c.slots[e.slot] = nil
	c.free = append(c.free, e.slot)
	h := e.hash()
	c.sum -= h
	if c.at[h] == e.slot {
		delete(c.at, h)
	}
}

// missing calls lacks with every entry that a client does not hold in its version, and stale with every name of its list that
// is not there in that version.
func (c *contents) missing(h *holding, lacks func(*entry), stale func(name []byte)) {
	held := make([]uint64, (len(c.slots)+63)/64)
	h.each(func(name, _ []byte, hash uint64) {
		if slot, ok := c.at[hash]; ok {
			held[slot/64] |= 1 << (slot % 64)
		} else {
			stale(name)
		}
	})
	for i, word := range held {
		for not := ^word; not != 0; not &= not - 1 {
			slot := i*64 + bits.TrailingZeros64(not)
			if slot < len(c.slots) && c.slots[slot] != nil {
				lacks(c.slots[slot])
			}
		}
	}
}
