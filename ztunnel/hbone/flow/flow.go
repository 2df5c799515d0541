// Package flow answers: how many bytes may still be sent or received on a stream, and when is credit given back?
//
// It is arithmetic only (RFC 9113, 5.2): no frames, no locks, no clock. Package hbone guards each value with the lock
// of the stream or connection it belongs to.
package flow

import (
	"math"
	"time"
)

// Max is the largest flow-control window of HTTP/2.
const Max = math.MaxInt32

// Send is how much the peer allows us to send. It may be negative after the peer lowered its initial window.
type Send struct{ n int64 }

// NewSend starts at the initial window size.
func NewSend(initial int64) Send { return Send{n: initial} }

// Available returns how many bytes may be sent now; it is never negative.
func (w *Send) Available() int { return int(max(w.n, 0)) }

// Take uses n bytes, which must be available.
func (w *Send) Take(n int) { w.n -= int64(n) }

// Add applies a WINDOW_UPDATE or a change of the initial window size. It reports false if the window would exceed the
// protocol's maximum, which is a FLOW_CONTROL_ERROR of the peer.
func (w *Send) Add(n int64) bool {
	if w.n+n > Max {
		return false
	}
	w.n += n
	return true
}

// Receive is what we allow the peer to send on one stream. Credit is returned when the bytes have left for the TCP
// side, not when they arrived, so what is granted plus what is held never exceeds the target, and a slow reader pins
// at most that. The target follows the reader: see Tune.
type Receive struct {
	base, ceiling int64
	target        int64 // wanted sum of open and held
	open          int64 // what the peer may still send
	held          int64 // received, not yet consumed
	taken         int64 // consumed since the last Tune
}

// NewReceive makes a window whose base was announced as the initial window size.
func NewReceive(base, ceiling int64) Receive {
	return Receive{base: base, ceiling: max(base, ceiling), target: base, open: base}
}

// Got records n received bytes. It reports false if the peer sent more than it was allowed.
func (w *Receive) Got(n int) bool {
	if int64(n) > w.open {
		return false
	}
	w.open -= int64(n)
	w.held += int64(n)
	return true
}

// Consumed records that n bytes have left for the reader.
func (w *Receive) Consumed(n int) {
	w.held -= int64(n)
	w.taken += int64(n)
}

// Held returns the bytes received and not yet consumed.
func (w *Receive) Held() int64 { return w.held }

// Target returns the present size of the window.
func (w *Receive) Target() int64 { return w.target }

// Cover is the time for which a window lets a reader go on at its own speed without news from the peer: several round
// trips within a cluster, with the delays of busy machines.
const Cover = 10 * time.Millisecond

// Tune sets the target when credit is due, elapsed after the last call, and returns by how much it changed; budget bounds
// the growth. While the reader keeps up, the window is what limits the stream, and doubles. Else the reader is, and the
// window moves to what it takes in Cover, by at most half its size: slow readers end at the base, fast ones keep enough.
func (w *Receive) Tune(elapsed time.Duration, budget int64) int64 {
	want := int64(0)
	if elapsed > 0 {
		want = int64(float64(w.taken) * float64(Cover) / float64(elapsed))
	}
	w.taken = 0
	if w.held <= w.target/4 {
		want = max(want, 2*w.target)
	}
	want = min(max(want, w.base, w.target/2), w.ceiling)
	change := min(want-w.target, max(budget, 0))
	w.target += change
	return change
}

// Reset lowers the target to the base, for a stream that gets no more credit, and returns by how much.
func (w *Receive) Reset() int64 {
	by := w.target - w.base
	w.target = w.base
	return by
}

// Due reports whether enough credit has gathered that a WINDOW_UPDATE is worth its bytes.
func (w *Receive) Due() bool { return w.target-w.open-w.held >= w.target/2 }

// Credit returns the increment to announce now and counts it as granted; 0 means none.
func (w *Receive) Credit() int64 {
	n := w.target - w.open - w.held
	if n <= 0 {
		return 0
	}
	w.open += n
	return n
}
