package hbone

import (
	"io"
	"net"
	"sync/atomic"
	"syscall"

	"golang.org/x/net/http2"
	"golang.org/x/sys/unix"

	"github.com/ambit-mesh/ambit/ztunnel/hbone/buffer"
)

// sink is a TCP socket that takes a stream's bytes straight from the connection's reading goroutine. The stream's mu
// guards it.
type sink struct {
	tcp     *net.TCPConn
	raw     syscall.RawConn
	written *atomic.Int64
	onWrite func(uintptr) bool // tryWrite, bound once
	iov     [][]byte           // tryWrite's argument
	n       int                // and results
	err     error
	reset   bool // the socket must end, or has ended, with a reset
	over    bool // nothing will be read from the socket any more: close it once the queue is empty
	closed  bool // nothing more may be written
	dead    bool // the socket was closed
}

// write writes as much of iov as the socket takes without waiting.
func (k *sink) write(iov [][]byte) (int, error) {
	k.iov, k.n, k.err = iov, 0, nil
	if err := k.raw.Write(k.onWrite); err != nil && k.err == nil {
		k.err = err
	}
	k.iov = nil
	k.written.Add(int64(k.n))
	return k.n, k.err
}

func (k *sink) tryWrite(fd uintptr) bool {
	for {
		if len(k.iov) == 1 {
			k.n, k.err = syscall.Write(int(fd), k.iov[0])
		} else {
			k.n, k.err = unix.Writev(int(fd), k.iov)
		}
		if k.err != unix.EINTR {
			break
		}
	}
	if k.err != nil {
		k.n = 0
		if k.err == unix.EAGAIN {
			k.err = nil
		}
	}
	return true
}

// abort resets the TCP connection.
func (k *sink) abort() {
	k.closed, k.reset, k.dead = true, true, true
	k.tcp.SetLinger(0)
	k.tcp.Close()
}

// deliver hands size bytes in iov to the stream's socket or queue. It runs on the connection's reading goroutine and never
// waits for the stream's side.
func (s *Stream) deliver(iov [][]byte, size int) {
	s.mu.Lock()
	if s.recvErr != nil || s.sink != nil && s.sink.closed {
		s.recv.Consumed(size)
		s.mu.Unlock()
		return
	}
	n := 0
	var err error
	if s.sink != nil && s.q.size == 0 && !s.draining {
		if n, err = s.sink.write(batchOf(iov)); err != nil {
			s.sink.abort()
			s.recv.Consumed(size)
			s.mu.Unlock()
			s.reset(&ResetError{Code: http2.ErrCodeConnect})
			return
		}
	}
	if n < size {
		s.queueLocked(iov, n)
	}
	credit := s.consumedLocked(n)
	s.mu.Unlock()
	s.c.credit(s, credit)
}

// batchOf bounds the vector of one writev.
func batchOf(iov [][]byte) [][]byte { return iov[:min(len(iov), 64)] }

// queueLocked keeps what the socket did not take, all but the first skip bytes.
func (s *Stream) queueLocked(iov [][]byte, skip int) {
	before := s.q.size
	for _, b := range iov {
		if skip >= len(b) {
			skip -= len(b)
			continue
		}
		s.q.add(b[skip:])
		skip = 0
	}
	m := s.c.cfg.Metrics
	m.QueuedBytes.Add(int64(s.q.size - before))
	if s.sink == nil {
		s.rcond.signal()
		return
	}
	if !s.draining {
		m.SlowReads.Add(1)
		s.draining = true
		go s.drain() // ends with the queue or the socket; Relay waits for it
	}
}

// drain writes the queue to the socket, waiting for it as long as it takes.
func (s *Stream) drain() {
	var room [8]chunk
	var iov [8][]byte
	for {
		s.mu.Lock()
		k := s.sink
		if s.q.size == 0 || k.closed {
			s.q.drop()
			s.draining = false
			s.endSinkLocked()
			s.rcond.broadcast()
			s.mu.Unlock()
			return
		}
		chunks := s.q.pop(room[:0], len(room))
		s.mu.Unlock()

		vec := net.Buffers(iov[:0])
		size := 0
		for i := range chunks {
			vec = append(vec, chunks[i].bytes())
			size += len(chunks[i].bytes())
		}
		n, err := vec.WriteTo(k.tcp)
		k.written.Add(n)
		for i := range chunks {
			buffer.Put(chunks[i].buf)
		}
		s.c.cfg.Metrics.QueuedBytes.Add(int64(-size))

		s.mu.Lock()
		failed := err != nil && !k.closed
		if failed {
			k.err = err
			k.abort()
		}
		credit := s.consumedLocked(size)
		s.mu.Unlock()
		if failed {
			s.reset(&ResetError{Code: http2.ErrCodeConnect})
		} else {
			s.c.credit(s, credit)
		}
	}
}

// endSinkLocked does to the socket what happened to the stream, once nothing is left to write.
func (s *Stream) endSinkLocked() {
	k := s.sink
	switch {
	case k == nil || k.dead:
	case k.reset || s.recvErr != nil && readError(s.recvErr) != io.EOF:
		k.abort()
	case s.recvErr == nil || s.q.size > 0 || s.draining:
	case k.over:
		k.closed, k.dead = true, true
		k.tcp.Close()
	case !k.closed:
		k.closed = true
		k.tcp.CloseWrite() // an error is the application's reset, which reading will report
	}
}

// attach makes tcp the taker of the stream's bytes.
func (s *Stream) attach(k *sink) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sink = k
	if s.over.Load() {
		k.over = true
	}
	if s.q.size > 0 {
		s.draining = true
		go s.drain()
		return
	}
	s.endSinkLocked()
}

// remoteEnd records END_STREAM; it runs on the reading goroutine after everything before it was delivered.
func (s *Stream) remoteEnd() {
	s.mu.Lock()
	if s.recvErr == nil {
		s.recvErr = io.EOF
		s.ungrowLocked()
	}
	s.recvEnd.Store(true)
	s.endSinkLocked()
	s.rcond.broadcast()
	s.mu.Unlock()

	c := s.c
	c.mu.Lock()
	c.halfDoneLocked(s)
	c.mu.Unlock()
	c.changed()
}
