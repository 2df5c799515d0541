package hbone

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

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

// Relay copies between a TCP connection and a stream in both directions until both have ended, and closes both. The end of
// one direction is passed on and leaves the other alone; a reset of either side resets the other. To end it early reset the
// stream.
//
// An idle relay costs a goroutine with a small stack and little else: bytes from the tunnel are written by the tunnel's reading
// goroutine, and a buffer is taken only when the socket has something to read.
type Relay struct {
	sink // the direction from the stream
	s    *Stream
	sent *atomic.Int64

	// Of the direction from the socket, and of its shift.
	onPoll  func(uintptr) bool // poll, bound once
	phase   phase
	again   bool // not the first shift
	fromTCP bool // run's error came from the socket
	bulk    bool // the last read filled its buffer
	limit   int
	buf     *buffer.Buf
	got     int
	readErr error

	// Of who calls Rest.
	seen   int64 // bytes sent at the last call
	rested bool  // since then the stack is small
}

// phase is what a relay's goroutine waits for.
type phase uint8

const (
	pumping  phase = iota // something to read
	peeking               // the same, at the beginning of a shift: without the stack that reading takes
	watching              // a reset, after the end of file
)

// NewRelay makes a relay; n counts its bytes. It owns tcp and s. It does nothing before Run.
func NewRelay(tcp *net.TCPConn, s *Stream, n *Counters) (*Relay, error) {
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("relay: %w", err)
	}
	r := &Relay{sink: sink{tcp: tcp, raw: raw, written: &n.FromStream}, s: s, sent: &n.ToStream, seen: -1}
	r.onWrite, r.onPoll = r.tryWrite, r.poll
	return r, nil
}

// Rest is to be called now and then. If the socket has sent nothing since the last call, the relay's goroutine may keep a
// stack that it will not need soon: Run returns, to be called again on a new one. It reports whether that is so. Only one
// goroutine may call it.
func (r *Relay) Rest() bool {
	n := r.sent.Load()
	if n != r.seen {
		r.seen, r.rested = n, false
		return false
	}
	if r.rested {
		return false
	}
	r.rested = true
	_ = r.tcp.SetReadDeadline(time.Unix(1, 0)) // fails if it is closed, and then Run ends anyway
	return true
}

// Run copies until the relay is over, or until it shall rest: then over is false, and Run must be called again.
func (r *Relay) Run() (result Result, over bool) {
	if r.again {
		_ = r.tcp.SetReadDeadline(time.Time{})
	} else {
		r.s.attach(&r.sink)
	}
	err := r.run()
	if r.fromTCP && errors.Is(err, os.ErrDeadlineExceeded) {
		r.again, r.fromTCP = true, false
		return Result{}, false
	}
	return r.finish(err), true
}

// run is a shift: the direction from the socket, and then the watch over it.
//
// Its frame, those below it and the poller's must fit into a new goroutine's stack while they wait.
func (r *Relay) run() error {
	if r.phase != watching {
		if r.again {
			if err := r.peek(); err != nil {
				return err
			}
		}
		if err := r.pump(); err != nil {
			return err
		}
		if !r.s.sendingOver() {
			return nil
		}
		r.phase = watching
	}
	return r.wait(watching)
}

//go:noinline
func (r *Relay) finish(err error) (result Result) {
	if err != nil && !errors.Is(err, net.ErrClosed) && r.fromTCP {
		result.TCPReset, result.Err = true, err
		r.s.mu.Lock()
		if !r.dead {
			r.abort()
		}
		r.s.mu.Unlock()
		r.s.reset(&ResetError{Code: http2.ErrCodeConnect})
	}
	r.s.awaitEnd(&result)
	r.tcp.Close()
	r.s.Close()
	return result
}

// sendingOver notes that the socket's end of file was passed on, and says whether the other direction still lives; its
// end will then close the socket.
func (s *Stream) sendingOver() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sink.over = true
	return !s.sink.closed
}

// wait waits for what p says.
func (r *Relay) wait(p phase) error {
	r.phase = p
	err := r.raw.Read(r.onPoll)
	if err == nil {
		err = r.readErr
	}
	r.fromTCP = err != nil
	return err
}

// peek waits until there is something to read.
func (r *Relay) peek() error { return r.wait(peeking) }

// poll is told by the poller that something has changed at the socket; false asks it to wait.
func (r *Relay) poll(fd uintptr) bool {
	switch r.phase {
	case peeking:
		return r.tryPeek(fd)
	case watching:
		return r.tryWatch(fd)
	default:
		return r.tryRead(fd)
	}
}

// tryPeek looks whether a read would not wait: there are bytes, the end of file or an error.
func (r *Relay) tryPeek(fd uintptr) bool {
	r.readErr = nil
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	return n > 0 || err != nil // reading tells which
}

// tryWatch looks for a reset. Nothing else would notice that an application which half-closed has died since, and the stream
// would stay for ever. After an end of file the kernel reports a reset as EPIPE, and through SO_ERROR only.
func (r *Relay) tryWatch(fd uintptr) bool {
	n, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && n != 0 {
		err = unix.Errno(n)
	}
	r.readErr = err
	return err != nil
}

// awaitEnd waits until the receiving half has ended and its bytes are written, and notes how it ended.
func (s *Stream) awaitEnd(r *Result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.draining || s.recvErr == nil && !s.sink.reset {
		s.rcond.wait(&s.mu)
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

// pump copies until the socket's end of file, which it passes on, or an error.
func (r *Relay) pump() error {
	for {
		n, err := r.s.c.awaitWindow(r.s)
		if err != nil {
			return err
		}
		r.limit = min(n, maxData)
		err = r.wait(pumping)
		if err != nil || r.got == 0 {
			r.putBack()
			if err == nil && r.wasReset() {
				r.fromTCP, err = true, syscall.ECONNRESET
			}
			if err == nil {
				return r.s.CloseWrite()
			}
			return err
		}
		err = r.forward()
		r.putBack()
		if err != nil {
			return err
		}
	}
}

func (r *Relay) putBack() {
	buffer.Put(r.buf)
	r.buf = nil
}

// wasReset tells a reset from an end of file. The kernel reports a reset once; when a write was told, a read only finds the
// end. But a socket that we have not ended ourselves is closed only after a reset.
func (r *Relay) wasReset() (reset bool) {
	err := r.raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		reset = err == nil && info.State == unix.BPF_TCP_CLOSE
	})
	if err == nil && !reset {
		return false
	}
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	return !r.closed || r.reset // asked last: closed is set before the socket is
}

func (r *Relay) forward() error {
	r.s.wmu.Lock()
	defer r.s.wmu.Unlock()
	n, err := r.s.c.sendData(r.s, r.buf.B[:frameHeader+r.got], frameHeader, true, false)
	r.sent.Add(int64(n))
	return err
}

// tryRead is one non-blocking read into a buffer that is taken only now.
func (r *Relay) tryRead(fd uintptr) bool {
	if r.buf == nil {
		if r.bulk {
			r.buf = buffer.GetLarge()
		} else {
			r.buf = buffer.GetSmall()
		}
	}
	room := min(r.limit, len(r.buf.B)-frameHeader)
	for {
		r.got, r.readErr = syscall.Read(int(fd), r.buf.B[frameHeader:frameHeader+room])
		if r.readErr != unix.EINTR {
			break
		}
	}
	if r.readErr == unix.EAGAIN {
		r.putBack()
		return false
	}
	if r.readErr != nil {
		r.got = 0
	}
	r.bulk = r.got >= buffer.Record-frameHeader
	return true
}

// awaitWindow waits until s may send and returns how many bytes, so that nobody holds a buffer while waiting.
func (c *conn) awaitWindow(s *Stream) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.windowLocked(s, maxData)
}
