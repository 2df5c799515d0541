package hbone

import (
	"context"
	"errors"
	"io"
	"math"
	"net"
	"time"

	"golang.org/x/net/http2"

	"github.com/ambit-mesh/ambit/ztunnel/hbone/head"
	"github.com/ambit-mesh/ambit/ztunnel/shift"
)

var (
	errAnswered = errors.New("hbone: CONNECT was answered before")
	errPreface  = &connFailure{http2.ErrCodeProtocol, "no HTTP/2 preface"}
)

// Handler serves one CONNECT, on a goroutine of its own: it calls Accept or Refuse, and returns the job of relaying, nil if
// there is nothing to do any more. The stream is reset if it has not ended then or after the job. A handler must return, and
// a job end, when the stream's Done is closed.
type Handler func(s *Stream, h *Head) shift.Job

// ServerConn is the server's end of one tunnel connection. All methods may be called concurrently.
type ServerConn struct{ c *conn }

// NewServerConn makes a server on nc: a [TLSConn] from [ServerTLS] or, in tests, any other. The caller must call Run.
func NewServerConn(nc net.Conn, cfg Config, handle Handler) *ServerConn {
	c := newConn(nc, cfg.withDefaults(false), false)
	c.handle = handle
	return &ServerConn{c}
}

// ServeConn serves nc until it ends; it is NewServerConn and Run for those who do not drain.
func ServeConn(ctx context.Context, nc net.Conn, cfg Config, handle Handler) error {
	return NewServerConn(nc, cfg, handle).Run(ctx)
}

// Run serves the connection until it ends and closes it; handlers and all other goroutines have ended when it returns.
// It returns nil if the connection was closed or drained, by either side. Cancelling ctx cuts the connection.
func (sc *ServerConn) Run(ctx context.Context) error {
	return sc.c.run(ctx, sc.c.readPreface)
}

func (c *conn) readPreface() error {
	var b [len(http2.ClientPreface)]byte
	if _, err := io.ReadFull(&c.in, b[:]); err != nil {
		return c.frameError(err)
	}
	if string(b[:]) != http2.ClientPreface {
		return errPreface
	}
	return nil
}

// Drain lets the connection end in an orderly way: the peer is told to open no more streams, CONNECTs already on their
// way are still served, later ones are refused with REFUSED_STREAM, and the connection ends with its last stream. It
// returns at once; cancel Run's context to end the wait.
func (sc *ServerConn) Drain() {
	c := sc.c
	c.mu.Lock()
	if c.drain == drainNone && c.err == nil {
		c.drain = drainAnnounce
		c.drainAt = time.Now()
		c.queued(c.fr.WriteGoAway(math.MaxInt32, http2.ErrCodeNo, nil))
		c.queued(c.fr.WritePing(false, drainPing))
		c.scheduleLocked(drainPingTimeout)
	}
	c.mu.Unlock()
	c.wake()
}

// Close cuts the connection.
func (sc *ServerConn) Close() { sc.c.fail(ErrClosed) }

// Streams returns the number of open streams.
func (sc *ServerConn) Streams() int {
	sc.c.mu.Lock()
	defer sc.c.mu.Unlock()
	return len(sc.c.streams)
}

// finalGoAway ends the first stage of a drain.
func (c *conn) finalGoAway() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.drain != drainAnnounce || c.err != nil {
		return
	}
	c.drain = drainFinal
	c.queued(c.fr.WriteGoAway(c.maxPeerID, http2.ErrCodeNo, nil))
	c.wake()
	c.finishDrainLocked()
}

// noteID records that the peer used a stream number.
func (c *conn) noteID(id uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if id%2 == 1 && id > c.maxPeerID && !c.client {
		c.maxPeerID = id
	}
}

// onRequest opens a stream for a CONNECT and starts its handler, or refuses it.
func (c *conn) onRequest(f *http2.MetaHeadersFrame) error {
	id := f.StreamID
	c.mu.Lock()
	if id%2 == 0 {
		c.mu.Unlock()
		return &connFailure{http2.ErrCodeProtocol, "even stream number"}
	}
	if id <= c.maxPeerID {
		s := c.streams[id]
		c.mu.Unlock()
		if s == nil {
			return c.guard.spend(costError)
		}
		return c.onTrailers(s, f)
	}
	c.maxPeerID = id
	if c.drain == drainFinal || len(c.streams) >= c.cfg.MaxStreams || c.handlers >= 2*c.cfg.MaxStreams {
		c.queued(c.fr.WriteRSTStream(id, http2.ErrCodeRefusedStream))
		c.cfg.Metrics.StreamsRefused.Add(1)
		c.mu.Unlock()
		if err := c.guard.spend(costRefused); err != nil {
			return err
		}
		return c.replied()
	}
	s := c.newStream(id)
	c.streams[id] = s
	c.cfg.Metrics.StreamsOpened.Add(1)
	c.cfg.Metrics.StreamsOpen.Add(1)
	h, err := head.ParseRequest(f.Fields)
	if err == nil && f.Truncated {
		err = &head.Malformed{Status: 431, Reason: "header list too large"}
	}
	if err == nil {
		c.handlers++
	}
	c.mu.Unlock()
	if f.StreamEnded() {
		s.remoteEnd()
	}
	if err != nil {
		return c.reject(s, err)
	}
	c.work.Add(1)
	go func() { shift.Run(c.handle(s, &h), s.served) }()
	return nil
}

// served cleans up after a handler and its job.
func (s *Stream) served() {
	c := s.c
	defer c.work.Done()
	c.mu.Lock()
	answered := s.head == headDone
	c.handlers--
	c.mu.Unlock()
	if !answered {
		s.Refuse(StatusUnavailable)
	}
	s.Close()
}

// reject answers a malformed CONNECT. It runs on the reading goroutine, so the answer is only queued.
func (c *conn) reject(s *Stream, err error) error {
	c.cfg.Metrics.StreamsRejected.Add(1)
	c.cfg.Log.Debug("connect rejected", "err", err)
	var bad *head.Malformed
	if errors.As(err, &bad) && bad.Status != 0 {
		c.mu.Lock()
		c.respondLocked(s, Response{Status: bad.Status}, true)
		c.mu.Unlock()
	} else {
		s.Reset(http2.ErrCodeProtocol)
	}
	if err := c.guard.spend(costError); err != nil {
		return err
	}
	return c.replied()
}

// Accept answers 200: the tunnel is open. The baggage describes the destination workload.
func (s *Stream) Accept(b Baggage) error {
	s.done.Store(nil) // most streams never need another
	return s.respond(Response{Status: StatusOK, Baggage: b}, false)
}

// Refuse answers with another status and ends the stream.
func (s *Stream) Refuse(status int) error { return s.respond(Response{Status: status}, true) }

func (s *Stream) respond(r Response, end bool) error {
	c := s.c
	c.mu.Lock()
	err := c.respondLocked(s, r, end)
	if err == nil {
		c.pushLocked()
	}
	c.mu.Unlock()
	if end {
		s.abort(&ResetError{Code: http2.ErrCodeNo})
	}
	return err
}

// respondLocked queues a response head. One that ends the stream is followed by RST_STREAM(NO_ERROR) if the request
// side is still open, which tells the client to stop sending (RFC 9113, 8.1).
func (c *conn) respondLocked(s *Stream, r Response, end bool) error {
	if s.sendErr != nil {
		return s.sendErr
	}
	if s.head == headDone {
		return errAnswered
	}
	s.head = headDone
	c.fields = r.AppendFields(c.fields)
	c.headersLocked(s.id, end)
	if end {
		if !s.recvEnd.Load() {
			c.queued(c.fr.WriteRSTStream(s.id, http2.ErrCodeNo))
		}
		s.sentEnd = true
		s.sendErr = errWriteClosed
		c.forgetLocked(s)
	}
	return nil
}
