package hbone

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"

	"github.com/ambit-mesh/ambit/ztunnel/hbone/flow"
)

var errWriteClosed = errors.New("hbone: write after end of stream")

// Stream is one tunnelled byte stream. One goroutine may read and another write at the same time; Reset and Close may
// be called at any time by anyone. Most streams are idle most of the time, so it is kept small.
type Stream struct {
	c  *conn
	id uint32

	// The sending half; guarded by c.mu.
	sentEnd bool // END_STREAM was written
	head    headState
	cond    cond // wakes the one writer
	send    flow.Send
	out     outgoing
	sendErr error      // why nothing more can be sent
	waiting *answer    // client: until the response or an error is there
	wmu     sync.Mutex // serializes Write and CloseWrite; taken before c.mu

	// The receiving half; guarded by mu.
	mu       sync.Mutex
	draining bool // a goroutine is emptying q into the sink
	rcond    cond // wakes the reader, or the relay that waits for the end
	recv     flow.Receive
	tuned    int64 // unix nanoseconds of the last recv.Tune
	q        queue
	recvErr  error // why nothing more will come: io.EOF after END_STREAM
	sink     *sink // where a relay lets bytes go directly

	done atomic.Pointer[chan struct{}]
	over atomic.Bool
	// recvEnd is set once END_STREAM arrived; written under mu, read under c.mu too.
	recvEnd atomic.Bool
}

// answer is what an opened stream waits for. The stream lets go of it, and of the strings in it, once it is there.
type answer struct {
	done chan struct{}
	resp Response // guarded by c.mu
}

// headState is how far the response has come.
type headState uint8

const (
	headNone headState = iota
	headDone           // response sent (server) or received (client)
)

func (c *conn) newStream(id uint32) *Stream {
	s := &Stream{c: c, id: id, send: flow.NewSend(c.peerInit)}
	s.recv = flow.NewReceive(int64(c.cfg.StreamWindow), int64(c.cfg.StreamWindowMax))
	return s
}

// ID returns the HTTP/2 stream identifier, for logs.
func (s *Stream) ID() uint32 { return s.id }

// Done returns a channel that is closed when the stream was reset, by either side, or its connection was lost. A stream
// that ends in the normal way does not close it. A handler watches it while it connects to the application; Accept lets
// go of it, and nobody closes a channel that was got before.
func (s *Stream) Done() <-chan struct{} {
	if p := s.done.Load(); p != nil {
		return *p
	}
	ch := make(chan struct{})
	if !s.done.CompareAndSwap(nil, &ch) {
		return *s.done.Load()
	}
	if s.over.Load() {
		s.closeDone()
	}
	return ch
}

// closeDone closes Done's channel, once.
func (s *Stream) closeDone() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.done.Load(); p != nil {
		select {
		case <-*p:
		default:
			close(*p)
		}
	}
}

// Read reads what the peer sent. It returns io.EOF after the peer's end of stream and after a reset with NO_ERROR or
// CANCEL, a *[ResetError] after any other reset. Credit for the bytes returns to the peer as they are read.
func (s *Stream) Read(p []byte) (int, error) {
	s.mu.Lock()
	for s.q.size == 0 && s.recvErr == nil && len(p) > 0 {
		s.rcond.wait(&s.mu)
	}
	n := s.q.read(p)
	var err error
	if n == 0 && len(p) > 0 {
		err = readError(s.recvErr)
	}
	s.c.cfg.Metrics.QueuedBytes.Add(int64(-n))
	credit := s.consumedLocked(n)
	s.mu.Unlock()
	s.c.credit(s, credit)
	return n, err
}

// Write sends p and returns when the socket has taken it. It waits while the peer's window is exhausted.
func (s *Stream) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	s.wmu.Lock()
	defer s.wmu.Unlock()
	return s.c.sendData(s, p, 0, false, false)
}

// CloseWrite ends our direction; the other goes on.
func (s *Stream) CloseWrite() error {
	s.wmu.Lock()
	defer s.wmu.Unlock()
	_, err := s.c.sendData(s, nil, 0, false, true)
	s.c.changed()
	return err
}

// Reset aborts both directions with code. CONNECT_ERROR stands for a TCP reset, and is also right for a connection that
// policy closes; CANCEL lets the peer see an end of file. Resetting a finished stream does nothing.
func (s *Stream) Reset(code http2.ErrCode) { s.reset(&ResetError{Code: code}) }

// Close ends the stream: with a reset of code CANCEL, unless both directions have ended. What was not read is discarded.
func (s *Stream) Close() error {
	s.Reset(http2.ErrCodeCancel)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.draining {
		s.c.cfg.Metrics.QueuedBytes.Add(int64(-s.q.size))
		s.q.drop()
	}
	return nil
}

// reset ends the stream from this side.
func (s *Stream) reset(why *ResetError) {
	c := s.c
	c.mu.Lock()
	if _, open := c.streams[s.id]; open && c.err == nil {
		c.queued(c.fr.WriteRSTStream(s.id, why.Code))
		c.cfg.Metrics.ResetsSent.Add(1)
		c.endLocked(s, why)
		c.forgetLocked(s)
	}
	c.mu.Unlock()
	c.wake()
	s.abort(why)
	c.changed()
}

// endLocked ends the sending half with err and releases its writer, but not while its bytes are being written.
func (c *conn) endLocked(s *Stream, err error) {
	if s.sendErr == nil || s.sendErr == errWriteClosed {
		s.sendErr = err
	}
	if s.out.place == placeQueued {
		for i, q := range c.queue {
			if q == s {
				c.queue = append(c.queue[:i], c.queue[i+1:]...)
				break
			}
		}
		s.out.place = placeIdle
	}
	s.answeredLocked()
	s.cond.signal()
}

// answeredLocked lets Connect go on.
func (s *Stream) answeredLocked() {
	if s.waiting != nil {
		close(s.waiting.done)
		s.waiting = nil
	}
}

// abort ends the receiving half with err. A relay's socket is reset, unless err reads as end of file.
func (s *Stream) abort(err error) {
	s.mu.Lock()
	if s.recvErr == nil {
		s.recvErr = err
	} else if s.recvErr == io.EOF && s.sink != nil && readError(err) != io.EOF {
		s.sink.reset = true
	}
	eof := readError(s.recvErr) == io.EOF
	if !eof {
		s.c.cfg.Metrics.QueuedBytes.Add(int64(-s.q.size))
		s.recv.Consumed(s.q.size)
		s.q.drop()
	}
	s.ungrowLocked()
	if s.sink != nil {
		s.sink.over = true
	}
	s.over.Store(true)
	s.endSinkLocked()
	s.rcond.broadcast()
	s.mu.Unlock()
	s.closeDone()
}

// halfDoneLocked forgets s if both halves have ended; the caller holds c.mu.
func (c *conn) halfDoneLocked(s *Stream) {
	if s.sentEnd && s.recvEnd.Load() {
		c.forgetLocked(s)
	}
}

// consumedLocked records that n bytes left for the reader and returns the credit to announce. s.mu is held.
func (s *Stream) consumedLocked(n int) int64 {
	s.recv.Consumed(n)
	if s.recvErr != nil || !s.recv.Due() {
		return 0
	}
	now := time.Now().UnixNano()
	s.c.growth.Add(-s.recv.Tune(time.Duration(now-s.tuned), s.c.growth.Load()))
	s.tuned = now
	return s.recv.Credit()
}

// ungrowLocked gives the stream's share of the growth budget back.
func (s *Stream) ungrowLocked() { s.c.growth.Add(s.recv.Reset()) }

// credit announces n bytes of credit for s.
func (c *conn) credit(s *Stream, n int64) {
	if n <= 0 {
		return
	}
	c.mu.Lock()
	_, open := c.streams[s.id]
	if open && c.err == nil {
		c.queued(c.fr.WriteWindowUpdate(s.id, uint32(n)))
	}
	c.mu.Unlock()
	if open {
		c.wake()
	}
}
