package xds

import (
	"sync"

	"google.golang.org/grpc/mem"
)

// whole is a type's complete list of frames, made once for all clients that start with nothing at about the same time. It is
// dropped at the next change, so that it does not keep old resources alive.
type whole struct {
	mu     sync.Mutex // taken by readers of the table, which come many at once
	frames mem.BufferSlice
	size   int
}

// full is every live resource, oldest change first, and its size in bytes. The slice is shared: nobody appends to it in place.
func (k *kind) full() (mem.BufferSlice, int) {
	w := &k.whole
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.frames == nil {
		w.frames, w.size = make(mem.BufferSlice, 0, k.live), 0
		for e := k.oldest; e != nil; e = e.newer {
			if !e.gone {
				w.frames = append(w.frames, mem.SliceBuffer(e.frame))
				w.size += len(e.frame)
			}
		}
	}
	return w.frames[:len(w.frames):len(w.frames)], w.size
}

// drop is called by the table's writer, which is alone.
func (w *whole) drop() { w.frames, w.size = nil, 0 }
