// Package buffer answers: where does the memory for bytes in flight come from?
//
// It hands out buffers of two sizes from process-wide pools. Nothing may hold one while it waits for a peer, except the
// per-stream queues, which flow control bounds. Safe for concurrent use; the pools are the only package state.
package buffer

import "sync"

// Record is the most plaintext a TLS record carries (RFC 8446, 5.1).
const Record = 16 << 10

// Records is how many full records one large buffer carries. 16 measured 3 to 8 % faster than 8 in bulk, on one stream and
// on 16; more than that leaves the cache.
const Records = 16

// Sizes of the two classes. Large is what one read from a socket or one write to it moves at most: Records full
// records with their headers and tags. Small holds one record.
const (
	Large = Records*(Record+64) + 512
	Small = Record + 512
)

// Buf is one pooled buffer. It is passed by pointer so that returning it does not allocate.
type Buf struct {
	B []byte // its length is the class's size until the holder slices it
}

var (
	large = sync.Pool{New: func() any { return &Buf{B: make([]byte, Large)} }}
	small = sync.Pool{New: func() any { return &Buf{B: make([]byte, Small)} }}
)

// GetLarge returns a buffer of Large bytes with arbitrary content.
func GetLarge() *Buf { return large.Get().(*Buf) }

// GetSmall returns a buffer of Small bytes with arbitrary content.
func GetSmall() *Buf { return small.Get().(*Buf) }

// Put gives a buffer back. The caller must not touch it again. A nil buffer is ignored.
func Put(b *Buf) {
	if b == nil {
		return
	}
	b.B = b.B[:cap(b.B)]
	switch cap(b.B) {
	case Large:
		large.Put(b)
	case Small:
		small.Put(b)
	}
}
