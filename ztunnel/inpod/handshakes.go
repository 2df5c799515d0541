package inpod

import (
	"container/list"
	"sync"
)

// handshakes bounds the TLS handshakes of a pod. When there are too many, the oldest makes room: it has had its time, while
// the newest may be an honest peer among ten thousand that only hold a place.
type handshakes struct {
	mu    sync.Mutex
	limit int
	order list.List // of func(), oldest first
}

// Handshake says that a handshake begins; the answer must be called when it is over. giveUp ends it early; it is called at
// most once, and must not block.
func (p *Pod) Handshake(giveUp func()) (done func()) {
	h := &p.half
	h.mu.Lock()
	var evicted func()
	if h.order.Len() >= h.limit {
		evicted = h.order.Remove(h.order.Front()).(func())
		p.owner.metrics.limited.WithLabelValues("handshakes").Inc()
	}
	mine := h.order.PushBack(giveUp)
	h.mu.Unlock()
	if evicted != nil {
		evicted()
	}
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.order.Remove(mine) // does nothing for one that was evicted
	}
}
