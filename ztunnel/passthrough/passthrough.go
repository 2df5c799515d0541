// Package passthrough answers: how do the bytes of two TCP connections get from one to the other when no tunnel is between
// them? It copies both ways, lets the kernel move bulk data (splice) and passes ends on: an end of file as an end of file, a
// reset as a reset. It does not dial, decide or log.
//
// inbound and outbound call it, in the goroutine of the connection. An idle relay holds two goroutines, no buffer and no
// pipe. The counters may be read at any time; everything else of a relay is its own goroutines'.
package passthrough

import (
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/ambit-mesh/ambit/ztunnel/hbone/buffer"
)

// Result says how a relay ended.
type Result struct {
	// Err is nil if both directions ended in the normal way.
	Err error
	// ByClient says that the client's side was reset or broke first, otherwise it was the server's.
	ByClient bool
}

// Relay copies between client and server until both directions have ended, and closes both. The end of one direction is
// passed on and leaves the other alone; when either side breaks, both are reset. toServer and toClient count the bytes
// as they are written. It blocks; to end it early, call Reset on either connection.
func Relay(client, server *net.TCPConn, toServer, toClient *atomic.Uint64) Result {
	var fromClient, fromServer atomic.Bool
	up, upErr := newHalf(client, server, toServer, &fromClient, &fromServer)
	down, downErr := newHalf(server, client, toClient, &fromServer, &fromClient)
	if err := errors.Join(upErr, downErr); err != nil {
		Reset(client)
		Reset(server)
		return Result{Err: err}
	}
	first := make(chan Result, 1) // of the direction from the server
	go func() {
		err := down.run()
		if err != nil {
			Reset(client)
			Reset(server)
		}
		first <- Result{Err: err, ByClient: down.broken == client}
	}()
	err := up.run()
	if err != nil {
		Reset(client)
		Reset(server)
	}
	other := <-first
	client.Close()
	server.Close()
	switch {
	case err == nil || errors.Is(err, net.ErrClosed) && other.Err != nil:
		return other
	default:
		return Result{Err: err, ByClient: up.broken == client}
	}
}

// Reset ends a connection so that the other side sees a reset instead of an end of file.
func Reset(c *net.TCPConn) {
	_ = c.SetLinger(0) // fails only on a closed connection
	c.Close()
}

// half is one direction.
type half struct {
	src, dst       *net.TCPConn
	srcRaw, dstRaw syscall.RawConn
	count          *atomic.Uint64
	onRead         func(uintptr) bool // tryRead, bound once
	broken         *net.TCPConn       // whose error ended it
	ended, back    *atomic.Bool       // this direction has ended; the other one has

	// Of the step under way.
	buf *buffer.Buf
	n   int
	err error
}

func newHalf(src, dst *net.TCPConn, count *atomic.Uint64, ended, back *atomic.Bool) (*half, error) {
	srcRaw, err := src.SyscallConn()
	if err != nil {
		return nil, err
	}
	dstRaw, err := dst.SyscallConn()
	if err != nil {
		return nil, err
	}
	h := &half{src: src, dst: dst, srcRaw: srcRaw, dstRaw: dstRaw, count: count, ended: ended, back: back}
	h.onRead = h.tryRead
	return h, nil
}

// run copies until the end of file, which it passes on, or an error.
func (h *half) run() error {
	for {
		bulk, err := h.step()
		if err != nil || h.n == 0 {
			return err
		}
		if !bulk {
			continue
		}
		if err := h.splice(); err != nil {
			return err
		}
	}
}

// step reads once and writes what it read. h.n is 0 at the end of file. A read that fills the buffer means bulk data.
func (h *half) step() (bulk bool, err error) {
	defer func() {
		buffer.Put(h.buf)
		h.buf = nil
	}()
	h.err = nil
	if err := errors.Join(h.srcRaw.Read(h.onRead), h.err); err != nil {
		h.broken = h.src
		return false, fmt.Errorf("read: %w", err)
	}
	if h.n == 0 {
		if h.wasReset() {
			h.broken = h.src
			return false, fmt.Errorf("read: %w", syscall.ECONNRESET)
		}
		return false, h.end()
	}
	full := h.n == len(h.buf.B)
	n, err := h.dst.Write(h.buf.B[:h.n])
	h.count.Add(uint64(n))
	if err != nil {
		h.broken = h.dst
		return false, err
	}
	return full, nil
}

// wasReset tells a reset from an end of file. The kernel reports a reset once; when the other direction's write was told,
// a read only finds the end. But a socket that we have not ended ourselves is closed only after a reset.
func (h *half) wasReset() (reset bool) {
	_ = h.srcRaw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		reset = err == nil && info.State == unix.BPF_TCP_CLOSE
	})
	return reset && !h.back.Load() // asked last: ended is set before the socket is
}

// end passes the end of file on. A destination that is gone has said so, or will, in the other direction.
func (h *half) end() error {
	h.ended.Store(true)
	if err := h.dst.CloseWrite(); err != nil && !errors.Is(err, syscall.ENOTCONN) {
		h.broken = h.dst
		return err
	}
	return nil
}

// tryRead is one non-blocking read into a buffer that is taken only now; false asks the poller to wait.
func (h *half) tryRead(fd uintptr) bool {
	if h.buf == nil {
		h.buf = buffer.GetSmall()
	}
	for {
		h.n, h.err = unix.Read(int(fd), h.buf.B)
		if h.err != unix.EINTR {
			break
		}
	}
	if h.err == unix.EAGAIN {
		h.err = nil
		buffer.Put(h.buf)
		h.buf = nil
		return false
	}
	if h.err != nil {
		h.n = 0
	}
	return true
}
