package xds

import (
	"sync"

	"google.golang.org/grpc/mem"
)

// frameSize is the largest HTTP/2 frame that gRPC takes, in bytes.
const frameSize = 16 << 10

// Buffers is gRPC's own pool, except that full frames come as they are: gRPC's are wiped each time, although a frame is read over all
// of it, and wiping what a client sends at a reconnect costs as much as decrypting it. It is safe for concurrent use.
//
// What is small keeps to gRPC's sizes, so that no client has memory held that is many times what it sent.
func Buffers() mem.BufferPool { return &buffers{rest: mem.DefaultBufferPool()} }

type buffers struct {
	frames sync.Pool
	rest   mem.BufferPool
}

// Get implements mem.BufferPool.
func (p *buffers) Get(n int) *[]byte {
	if n > frameSize || n <= frameSize/4 {
		return p.rest.Get(n)
	}
	b, ok := p.frames.Get().(*[]byte)
	if !ok {
		b = new(make([]byte, frameSize))
	}
	*b = (*b)[:n]
	return b
}

// Put implements mem.BufferPool.
func (p *buffers) Put(b *[]byte) {
	if cap(*b) == frameSize {
		p.frames.Put(b)
	} else {
		p.rest.Put(b)
	}
}
