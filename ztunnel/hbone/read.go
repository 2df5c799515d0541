package hbone

import (
	"io"
	"net"
	"time"

	"golang.org/x/net/http2"

	"github.com/ambit-mesh/ambit/ztunnel/hbone/batch"
	"github.com/ambit-mesh/ambit/ztunnel/hbone/buffer"
)

// reader supplies plaintext to the Framer and, without copying, to DATA handling. It holds a buffer only while there
// are bytes in it. It belongs to the connection's reading goroutine.
type reader struct {
	c    *conn
	nc   net.Conn
	rec  *batch.Conn // nil without TLS
	buf  *buffer.Buf
	r, w int
	// allowance is how many more Reads may be made; 0 is no limit. It stops endless CONTINUATION frames, which the Framer
	// reads without returning to us.
	allowance int
}

// maxHeaderReads is enough for a header list of the largest size in frames of 2 KiB, each read in three pieces.
const maxHeaderReads = 128

func (f *reader) init(c *conn) {
	f.c, f.nc = c, c.nc
	if t, ok := c.nc.(*TLSConn); ok {
		f.rec = t.records
	}
}

// Read implements io.Reader.
func (f *reader) Read(p []byte) (int, error) {
	if f.allowance > 0 {
		if f.allowance--; f.allowance == 0 {
			f.allowance = 1
			return 0, &connFailure{http2.ErrCodeEnhanceYourCalm, "too many CONTINUATION frames"}
		}
	}
	if f.r == f.w {
		if err := f.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, f.buf.B[f.r:f.w])
	f.r += n
	return n, nil
}

// take returns between 1 and limit bytes that stay valid until the next call of any method.
func (f *reader) take(limit int) ([]byte, error) {
	if f.r == f.w {
		if err := f.fill(); err != nil {
			return nil, err
		}
	}
	n := min(limit, f.w-f.r)
	b := f.buf.B[f.r : f.r+n]
	f.r += n
	return b, nil
}

// fill waits for bytes and reads as many as have arrived, up to one buffer. What was gathered from the old content
// is delivered first.
func (f *reader) fill() error {
	f.c.flushGather()
	f.r, f.w = 0, 0
	if f.rec != nil && !f.rec.HasRecord() {
		f.release()
		if err := f.rec.WaitRecord(); err != nil {
			return err
		}
	}
	if f.buf == nil {
		if f.rec != nil {
			f.buf = buffer.GetLarge()
		} else {
			f.buf = buffer.GetSmall()
		}
	}
	for {
		n, err := f.nc.Read(f.buf.B[f.w:])
		f.w += n
		if err != nil && f.w == 0 {
			return err
		}
		if err != nil || f.rec == nil || !f.rec.HasRecord() || len(f.buf.B)-f.w < buffer.Record {
			break
		}
	}
	if f.w == 0 {
		return io.ErrNoProgress
	}
	f.c.lastRead.Store(time.Now().UnixNano())
	return nil
}

func (f *reader) release() {
	buffer.Put(f.buf)
	f.buf, f.r, f.w = nil, 0, 0
}

// gather collects DATA payloads of one stream that lie in one buffer, so that they reach its socket in one system
// call although frame headers lie between them. It belongs to the reading goroutine.
type gather struct {
	s    *Stream
	iov  [][]byte
	size int
}

func (g *gather) drop() { g.s, g.iov, g.size = nil, nil, 0 }

// gatherData queues b, bytes of the reader's buffer, for delivery to s.
func (c *conn) gatherData(s *Stream, b []byte) {
	if c.gather.s != s {
		c.flushGather()
		c.gather.s = s
	}
	c.gather.iov = append(c.gather.iov, b)
	c.gather.size += len(b)
}

// flushGather delivers what was gathered. Afterwards the reader's buffer may be overwritten.
func (c *conn) flushGather() {
	g := &c.gather
	if g.s == nil {
		return
	}
	g.s.deliver(g.iov, g.size)
	clear(g.iov)
	g.s, g.iov, g.size = nil, g.iov[:0], 0
}
