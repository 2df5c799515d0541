// Package batch answers: how do many TLS records travel in one system call?
//
// [Conn] sits between a socket and a tls.Conn. Outgoing records gather while it is corked and leave in one write.
// Incoming bytes are read in large pieces and handed up so that a Read never crosses the end of a TLS record, which
// lets the layer above ask whether a whole record waits here and, if none does, sleep without holding any buffer.
// It looks at nothing of a record but the length in its five-byte header (RFC 8446, 5.1).
//
// One goroutine may read and others write at the same time, as with any net.Conn; WaitRecord and HasRecord belong to the
// reading goroutine.
package batch

import (
	"io"
	"net"
	"sync"
	"syscall"

	"github.com/ambit-mesh/ambit/ztunnel/hbone/buffer"
)

const recordHeader = 5

// Conn batches the records of one connection. Make it with [New].
type Conn struct {
	net.Conn
	raw syscall.RawConn // nil if the connection below is no socket

	// Owned by the reading goroutine.
	in     *buffer.Buf
	r, w   int // in.B[r:w] is unread
	left   int // unread bytes of the record in progress
	n      int // result of tryRead
	err    error
	onRead func(uintptr) bool // tryRead, bound once

	wmu    sync.Mutex
	out    *buffer.Buf // gathered records
	outLen int
	corked bool
	werr   error
}

// New wraps nc, a TCP connection or, in tests and for tunnels inside tunnels, any other.
func New(nc net.Conn) *Conn {
	c := &Conn{Conn: nc}
	if sc, ok := nc.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			c.raw = raw
			c.onRead = c.tryRead
		}
	}
	return c
}

// HasRecord reports whether a complete TLS record is here, so that reading it will not block.
func (c *Conn) HasRecord() bool { return c.w-c.r >= c.need() }

// need returns how many bytes must be buffered for the record at the front to be complete.
func (c *Conn) need() int {
	if c.left > 0 {
		return c.left
	}
	if c.w-c.r < recordHeader {
		return recordHeader
	}
	b := c.in.B[c.r:]
	return min(recordHeader+int(b[3])<<8|int(b[4]), buffer.Small)
}

// WaitRecord blocks until a complete record is here. It holds no buffer while nothing has arrived, and one for a
// single record while only part of one has. At the end of input it returns io.EOF, or io.ErrUnexpectedEOF.
func (c *Conn) WaitRecord() error {
	for !c.HasRecord() {
		if err := c.fill(); err != nil {
			if err == io.EOF && c.w > c.r {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

// Read hands up bytes of at most one record.
func (c *Conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for c.left == 0 {
		if c.w-c.r >= recordHeader {
			b := c.in.B[c.r:]
			c.left = recordHeader + (int(b[3])<<8 | int(b[4]))
			break
		}
		if err := c.fill(); err != nil {
			if c.w == c.r {
				return 0, err
			}
			c.left = c.w - c.r // what is left is no record; tls says so
		}
	}
	for c.w == c.r {
		if err := c.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, c.in.B[c.r:min(c.w, c.r+c.left)])
	c.r += n
	c.left -= n
	if c.r == c.w {
		c.release()
	}
	return n, nil
}

// fill reads once from below, after waiting until there is something to read.
func (c *Conn) fill() error {
	if c.raw == nil {
		c.room()
		n, err := c.Conn.Read(c.in.B[c.w:])
		c.w += max(n, 0)
		if n > 0 {
			return nil
		}
		c.settle()
		return err
	}
	if err := c.raw.Read(c.onRead); err != nil {
		return err
	}
	if c.err != nil {
		return c.err
	}
	if c.n == 0 {
		return io.EOF
	}
	return nil
}

// tryRead is one non-blocking read; false asks the poller to wait.
func (c *Conn) tryRead(fd uintptr) bool {
	c.room()
	for {
		c.n, c.err = syscall.Read(int(fd), c.in.B[c.w:])
		if c.err != syscall.EINTR {
			break
		}
	}
	if c.err == nil {
		c.w += c.n
		if c.n == 0 {
			c.settle()
		}
		return true
	}
	c.n = 0
	c.settle()
	if c.err == syscall.EAGAIN {
		return false
	}
	c.err = &net.OpError{Op: "read", Net: "tcp", Addr: c.RemoteAddr(), Err: c.err}
	return true
}

// room makes sure that a large buffer with space for a record is there.
func (c *Conn) room() {
	switch {
	case c.in == nil:
		c.in = buffer.GetLarge()
		c.r, c.w = 0, 0
	case len(c.in.B) < buffer.Large:
		big := buffer.GetLarge()
		c.w = copy(big.B, c.in.B[c.r:c.w])
		c.r = 0
		buffer.Put(c.in)
		c.in = big
	case c.r > 0 && len(c.in.B)-c.w < buffer.Small:
		c.w = copy(c.in.B, c.in.B[c.r:c.w])
		c.r = 0
	}
}

// settle gives up what is not needed while waiting.
func (c *Conn) settle() {
	switch n := c.w - c.r; {
	case n == 0:
		c.release()
	case n <= buffer.Small && len(c.in.B) == buffer.Large:
		little := buffer.GetSmall()
		c.w = copy(little.B, c.in.B[c.r:c.w])
		c.r = 0
		buffer.Put(c.in)
		c.in = little
	}
}

func (c *Conn) release() {
	buffer.Put(c.in)
	c.in, c.r, c.w = nil, 0, 0
}

// Cork makes writes gather until Flush.
func (c *Conn) Cork() {
	c.wmu.Lock()
	c.corked = true
	c.wmu.Unlock()
}

// Write sends p, or gathers it while corked.
func (c *Conn) Write(p []byte) (int, error) {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if c.werr != nil {
		return 0, c.werr
	}
	if !c.corked && c.outLen == 0 {
		n, err := c.Conn.Write(p)
		c.werr = err
		return n, err
	}
	for rest := p; len(rest) > 0; {
		if c.out == nil {
			c.out = buffer.GetLarge()
		}
		n := copy(c.out.B[c.outLen:], rest)
		c.outLen += n
		rest = rest[n:]
		if len(rest) > 0 {
			if err := c.flushLocked(); err != nil {
				return 0, err
			}
		}
	}
	if !c.corked {
		if err := c.flushLocked(); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// Flush sends what was gathered and uncorks.
func (c *Conn) Flush() error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	c.corked = false
	return c.flushLocked()
}

func (c *Conn) flushLocked() error {
	if c.out == nil {
		return c.werr
	}
	out, n := c.out, c.outLen
	c.out, c.outLen = nil, 0
	if c.werr == nil {
		_, c.werr = c.Conn.Write(out.B[:n])
	}
	buffer.Put(out)
	return c.werr
}

// WaitInput blocks until at least one byte is here.
func (c *Conn) WaitInput() error {
	if c.w > c.r {
		return nil
	}
	return c.fill()
}
