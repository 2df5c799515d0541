package hbone

import (
	"encoding/binary"
	"runtime"
	"slices"
	"time"

	"golang.org/x/net/http2"

	"github.com/ambit-mesh/ambit/ztunnel/hbone/buffer"
)

const (
	// maxData is the most payload one frame of ours carries: with its header it fills TLS records exactly.
	maxData = buffer.Records*buffer.Record - frameHeader
	// maxBatch is how many bytes of payload one leader writes before it passes the lead on.
	maxBatch = 2 * maxData
	// directData is the payload from which a frame goes to TLS from where it lies; below, it is copied together with others
	// into common records.
	directData = 4 << 10
	// busyGap is how soon after another a batch begins on a connection where frames of several streams may meet.
	busyGap = 250 * time.Microsecond
)

// place is where a stream's outgoing DATA stands.
type place uint8

const (
	placeIdle    place = iota // nothing to write, or written
	placeQueued               // in conn.queue
	placeLead                 // in conn.queue, and its goroutine must write the next batch
	placeWriting              // in the batch being written: its bytes must not be touched
)

// outgoing is one piece of DATA on its way. The payload is buf[off:]; if off is at least frameHeader, the bytes
// before it may be overwritten.
type outgoing struct {
	buf   []byte
	off   int
	end   bool
	place place
}

// sendData writes buf[off:] on s, within the flow-control windows, and returns when it was handed to the socket. With
// room set, the frameHeader bytes before off, and all of buf once sent, may be overwritten. It returns the number of bytes
// sent. Only one call per stream may be in progress.
func (c *conn) sendData(s *Stream, buf []byte, off int, room, end bool) (sent int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		n, err := c.windowLocked(s, len(buf)-off)
		if err != nil {
			return sent, err
		}
		n = min(n, maxData)
		s.send.Take(n)
		c.send.Take(n)
		last := off+n == len(buf)
		if room {
			s.out.buf, s.out.off = buf[off-frameHeader:off+n], frameHeader
		} else {
			s.out.buf, s.out.off = buf[off:off+n], 0
		}
		s.out.end = end && last
		c.commitLocked(s)
		s.out.buf = nil
		if s.sendErr != nil && !(s.out.end && s.sentEnd) {
			return sent, s.sendErr
		}
		sent += n
		off += n
		if last {
			return sent, nil
		}
	}
}

// windowLocked waits until s may send, and returns how many bytes of want. END_STREAM alone needs no window.
func (c *conn) windowLocked(s *Stream, want int) (int, error) {
	for {
		switch {
		case s.sendErr != nil:
			return 0, s.sendErr
		case want == 0:
			return 0, nil
		}
		n := min(want, s.send.Available(), c.send.Available())
		if n > 0 {
			return n, nil
		}
		if s.send.Available() > 0 && !slices.Contains(c.starved, s) {
			c.starved = append(c.starved, s)
		}
		s.cond.wait(&c.mu)
	}
}

// commitLocked queues s.out and returns when it was written, or given up because the stream or connection ended.
func (c *conn) commitLocked(s *Stream) {
	c.queue = append(c.queue, s)
	s.out.place = placeQueued
	if !c.writing {
		c.writing = true
		s.out.place = placeLead
	}
	for s.out.place == placeQueued || s.out.place == placeWriting {
		s.cond.wait(&c.mu)
	}
	if s.out.place == placeLead {
		if len(s.out.buf)-s.out.off < directData {
			c.companyLocked()
		}
		c.leadLocked()
	}
}

// companyLocked lets goroutines that can run queue their frames too, so that those of several streams leave in one system call:
// a write costs more than what it says. Where the last batch left a while ago nobody is likely to come, and to ask would wake
// another thread for nothing. The caller has set writing; mu is released meanwhile.
func (c *conn) companyLocked() {
	if len(c.streams) > 1 && time.Since(c.wroteAt) < busyGap {
		c.mu.Unlock()
		runtime.Gosched()
		c.mu.Lock()
	}
}

// leadLocked writes one batch, wakes those whose bytes were in it, and passes the lead to the next in the queue. Control
// frames that nobody else will write are written before it returns. The caller has set writing.
func (c *conn) leadLocked() {
	var batch [16]*Stream
	for {
		n := c.pickLocked(batch[:])
		ctl := c.ctl
		c.ctl, c.spare = c.spare[:0], nil
		if n > 0 || len(ctl) > 0 {
			c.writeAt = time.Now()
			peerMax := c.peerMax
			c.mu.Unlock()
			err := c.emit(ctl, batch[:n], peerMax)
			if err != nil {
				c.fail(err)
			}
			c.mu.Lock()
			c.wroteAt, c.writeAt = c.writeAt, time.Time{}
			if c.batched != nil {
				close(c.batched)
				c.batched = nil
			}
		}
		if c.spare == nil && cap(ctl) <= 2*maxControlQueue {
			c.spare = ctl[:0]
		}
		for _, s := range batch[:n] {
			s.out.place = placeIdle
			if s.out.end && s.sendErr == nil {
				s.sentEnd = true
				s.sendErr = errWriteClosed
				c.halfDoneLocked(s)
			}
			s.cond.signal()
		}
		clear(batch[:n])
		if len(c.queue) > 0 {
			c.queue[0].out.place = placeLead
			c.queue[0].cond.signal()
			return
		}
		if len(c.ctl) == 0 || c.err != nil {
			c.writing = false
			return
		}
	}
}

// pickLocked moves the next batch from the queue into batch and returns its length; streams that ended are dropped.
func (c *conn) pickLocked(batch []*Stream) int {
	n, taken, size := 0, 0, 0
	for _, s := range c.queue {
		if n == len(batch) || size >= maxBatch {
			break
		}
		taken++
		if s.sendErr != nil {
			s.out.place = placeIdle
			s.cond.signal()
			continue
		}
		s.out.place = placeWriting
		batch[n] = s
		n++
		size += len(s.out.buf) - s.out.off
	}
	left := copy(c.queue, c.queue[taken:])
	clear(c.queue[left:])
	c.queue = c.queue[:left]
	return n
}

// emit writes control frames, then the streams' DATA, as few and full TLS records in as few system calls as may be.
func (c *conn) emit(ctl []byte, batch []*Stream, peerMax int) error {
	a := assembler{c: c}
	defer a.done()
	if t, ok := c.nc.(*TLSConn); ok {
		t.records.Cork()
	}
	a.add(ctl)
	for _, s := range batch {
		o := &s.out
		data := o.buf[o.off:]
		if o.off >= frameHeader && len(data) >= directData && len(data) <= peerMax {
			putHeader(o.buf[o.off-frameHeader:], len(data), s.id, o.end)
			a.direct(o.buf[o.off-frameHeader:])
			continue
		}
		for first := true; first || len(data) > 0; first = false {
			n := min(len(data), peerMax)
			var h [frameHeader]byte
			putHeader(h[:], n, s.id, o.end && n == len(data))
			a.add(h[:])
			a.add(data[:n])
			data = data[n:]
		}
	}
	a.flush()
	if t, ok := c.nc.(*TLSConn); ok {
		if err := t.records.Flush(); a.err == nil {
			a.err = err
		}
	}
	return a.err
}

// putHeader writes the header of a DATA frame (RFC 9113, 4.1), the one frame encoded here instead of by the Framer,
// which would copy the payload.
func putHeader(b []byte, n int, id uint32, end bool) {
	b[0], b[1], b[2] = byte(n>>16), byte(n>>8), byte(n)
	b[3] = byte(http2.FrameData)
	b[4] = 0
	if end {
		b[4] = byte(http2.FlagDataEndStream)
	}
	binary.BigEndian.PutUint32(b[5:], id)
}

// assembler copies small pieces together into one buffer before they go to TLS.
type assembler struct {
	c   *conn
	buf *buffer.Buf
	n   int
	err error
}

func (a *assembler) add(p []byte) {
	for len(p) > 0 {
		if a.buf == nil {
			a.buf = buffer.GetLarge()
		}
		k := copy(a.buf.B[a.n:buffer.Records*buffer.Record], p)
		a.n += k
		p = p[k:]
		if len(p) > 0 {
			a.flush()
		}
	}
}

func (a *assembler) direct(p []byte) {
	a.flush()
	if a.err == nil {
		_, a.err = a.c.nc.Write(p)
	}
}

func (a *assembler) flush() {
	if a.n > 0 && a.err == nil {
		_, a.err = a.c.nc.Write(a.buf.B[:a.n])
	}
	a.n = 0
}

func (a *assembler) done() { buffer.Put(a.buf) }

// flusher writes what the reading goroutine queued, until the connection ends.
func (c *conn) flusher() {
	for {
		select {
		case <-c.kick:
			c.flushControl()
		case <-c.closed:
			return
		}
	}
}

// flushControl writes queued control frames unless a leader is at work, who will.
func (c *conn) flushControl() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.writing && len(c.ctl) > 0 && c.err == nil {
		c.writing = true
		c.leadLocked()
	}
}

// flushAll writes queued control frames, or waits until a leader has: one batch that may have begun before they were
// queued, and the next. It gives up after lastWords.
func (c *conn) flushAll() {
	limit := time.NewTimer(lastWords)
	defer limit.Stop()
	for range 2 {
		c.mu.Lock()
		if !c.writing || c.err != nil {
			c.mu.Unlock()
			break
		}
		if c.batched == nil {
			c.batched = make(chan struct{})
		}
		done := c.batched
		c.mu.Unlock()
		select {
		case <-done:
		case <-limit.C:
			return
		}
	}
	c.flushControl()
}

// wake lets the flusher know of queued control frames; the caller never waits.
func (c *conn) wake() {
	select {
	case c.kick <- struct{}{}:
	default:
	}
}
