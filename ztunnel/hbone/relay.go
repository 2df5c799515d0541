package hbone

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
	"syscall"

	"golang.org/x/net/http2"
	"golang.org/x/sys/unix"

	"github.com/ambit-mesh/ambit/ztunnel/hbone/buffer"
)

// Counters count a relay's payload bytes; they may be read while it runs.
type Counters struct {
	ToStream   atomic.Int64 // read from the TCP connection and sent into the tunnel
	FromStream atomic.Int64 // written to the TCP connection
}

// Result says how a relay ended.
type Result struct {
	// Err is nil if both directions ended in the normal way.
	Err error
	// TCPReset says that the TCP side was reset by the application, StreamReset that the tunnel's side was.
	TCPReset, StreamReset bool
}

// Relay copies between tcp and s in both directions until both have ended, and closes both. The end of one direction
// is passed on and leaves the other alone; a reset of either side resets the other. It blocks; to end it early reset
// the stream.
//
// An idle relay costs the calling goroutine and little else: bytes from the tunnel are written by the tunnel's reading
// goroutine, and a buffer is taken only when the socket has something to read. Keep the frames below the call small: a
// parked goroutine whose frames exceed some 1,200 bytes keeps 8 KiB of stack, one below that 4.
func Relay(tcp *net.TCPConn, s *Stream, n *Counters) Result {
	raw, err := tcp.SyscallConn()
	if err != nil {
		s.Reset(http2.ErrCodeConnect)
		tcp.Close()
		return Result{Err: err, TCPReset: true}
	}
	k := &sink{tcp: tcp, raw: raw, written: &n.FromStream}
	k.onWrite = k.tryWrite
	s.attach(k)
	p := pump{s: s, raw: raw}
	p.onRead, p.onWatch = p.tryRead, p.tryWatch
	err = p.run(&n.ToStream)
	var r Result
	if err == nil && s.sendingOver() {
		err = p.watch()
	}
	if err != nil && !errors.Is(err, net.ErrClosed) && p.fromTCP {
		r.TCPReset, r.Err = true, err
		s.mu.Lock()
		if !k.dead {
			k.abort()
		}
		s.mu.Unlock()
		s.reset(&ResetError{Code: http2.ErrCodeConnect})
	}
	s.awaitEnd(&r)
	tcp.Close()
	s.Close()
	return r
}

// sendingOver notes that the socket's end of file was passed on, and says whether the other direction still lives; its
// end will then close the socket.
func (s *Stream) sendingOver() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sink.over = true
	return !s.sink.closed
}

// watch waits, after the socket's end of file, until it is closed or reset. Nothing else would notice that an application
// which half-closed has died since, and the stream would stay for ever.
func (p *pump) watch() error {
	p.fromTCP = true
	err := p.raw.Read(p.onWatch)
	if err == nil {
		err = p.err
	}
	return err
}

// tryWatch looks for a reset; the poller wakes it at each change of the socket. After an end of file the kernel reports
// one as EPIPE, and through SO_ERROR only.
func (p *pump) tryWatch(fd uintptr) bool {
	n, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && n != 0 {
		err = unix.Errno(n)
	}
	p.err = err
	return err != nil
}

// awaitEnd waits until the receiving half has ended and its bytes are written, and notes how it ended.
func (s *Stream) awaitEnd(r *Result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.draining || s.recvErr == nil && !s.sink.reset {
		s.rcond.Wait()
	}
	if r.Err != nil {
		return
	}
	if s.sink.err != nil {
		r.Err, r.TCPReset = s.sink.err, true
		return
	}
	var reset *ResetError
	if s.recvErr != nil && s.recvErr != io.EOF {
		r.Err = s.recvErr
	} else if s.sink.reset {
		r.Err = &ResetError{Code: http2.ErrCodeConnect}
	}
	r.StreamReset = errors.As(r.Err, &reset) || errors.Is(r.Err, ErrConnLost)
}

// pump is the direction from the socket to the stream.
type pump struct {
	s       *Stream
	raw     syscall.RawConn
	onRead  func(uintptr) bool // tryRead, bound once
	onWatch func(uintptr) bool // tryWatch
	limit   int
	bulk    bool // the last read filled its buffer
	buf     *buffer.Buf
	n       int
	err     error
	fromTCP bool // run's error came from the socket
}

// run copies until the socket's end of file, which it passes on, or an error.
func (p *pump) run(sent *atomic.Int64) error {
	for {
		n, err := p.s.c.awaitWindow(p.s)
		if err != nil {
			return err
		}
		p.limit = min(n, maxData)
		err = p.raw.Read(p.onRead)
		if err == nil {
			err = p.err
		}
		if err != nil || p.n == 0 {
			buffer.Put(p.buf)
			p.buf = nil
			if err == nil && p.wasReset() {
				err = syscall.ECONNRESET
			}
			if err == nil {
				return p.s.CloseWrite()
			}
			p.fromTCP = true
			return err
		}
		err = p.forward(sent)
		buffer.Put(p.buf)
		p.buf = nil
		if err != nil {
			return err
		}
	}
}

// wasReset tells a reset from an end of file. The kernel reports a reset once; when a write was told, a read only finds the
// end. But a socket that we have not ended ourselves is closed only after a reset.
func (p *pump) wasReset() (reset bool) {
	err := p.raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		reset = err == nil && info.State == unix.BPF_TCP_CLOSE
	})
	if err == nil && !reset {
		return false
	}
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	return !p.s.sink.closed || p.s.sink.reset // asked last: closed is set before the socket is
}

func (p *pump) forward(sent *atomic.Int64) error {
	p.s.wmu.Lock()
	defer p.s.wmu.Unlock()
	n, err := p.s.c.sendData(p.s, p.buf.B[:frameHeader+p.n], frameHeader, true, false)
	sent.Add(int64(n))
	return err
}

// tryRead is one non-blocking read into a buffer that is taken only now; false asks the poller to wait.
func (p *pump) tryRead(fd uintptr) bool {
	if p.buf == nil {
		if p.bulk {
			p.buf = buffer.GetLarge()
		} else {
			p.buf = buffer.GetSmall()
		}
	}
	room := min(p.limit, len(p.buf.B)-frameHeader)
	for {
		p.n, p.err = syscall.Read(int(fd), p.buf.B[frameHeader:frameHeader+room])
		if p.err != unix.EINTR {
			break
		}
	}
	if p.err == unix.EAGAIN {
		buffer.Put(p.buf)
		p.buf = nil
		return false
	}
	if p.err != nil {
		p.n = 0
	}
	p.bulk = p.n >= buffer.Record-frameHeader
	return true
}

// awaitWindow waits until s may send and returns how many bytes, so that nobody holds a buffer while waiting.
func (c *conn) awaitWindow(s *Stream) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.windowLocked(s, maxData)
}
