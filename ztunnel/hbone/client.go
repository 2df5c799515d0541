package hbone

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/net/http2"
)

// maxStreamID is where a client stops using a connection: stream numbers end at 2^31-1.
const maxStreamID = 1<<31 - 1<<16

// ClientConn is the client's end of one tunnel connection. All methods may be called concurrently.
type ClientConn struct{ c *conn }

// NewClientConn makes a client on nc: a [TLSConn] from [ClientTLS] or, in tests, any other. The caller must call Run.
func NewClientConn(nc net.Conn, cfg Config) *ClientConn {
	return &ClientConn{newConn(nc, cfg.withDefaults(true), true)}
}

// Run serves the connection until it ends and closes it; its goroutines have ended when it returns. It returns nil
// if the connection was closed or drained, by either side. Cancelling ctx cuts the connection.
func (cc *ClientConn) Run(ctx context.Context) error {
	return cc.c.run(ctx, func() error { return nil })
}

// Connect opens a tunnel and waits for the answer, no longer than Config.ConnectTimeout. It may be called before the server's
// SETTINGS have arrived and even before Run. With any answer but 200 the stream is nil and the error a *[StatusError];
// [ErrNotProcessed] means that the CONNECT may be sent again on another connection.
func (cc *ClientConn) Connect(ctx context.Context, h *Head) (*Stream, Response, error) {
	if !cc.reserve() {
		return nil, Response{}, fmt.Errorf("no free stream: %w", ErrNotProcessed)
	}
	return cc.open(ctx, h)
}

// reserve takes a slot for one open, which must follow.
func (cc *ClientConn) reserve() bool {
	c := cc.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.usableLocked() || len(c.streams)+c.reserved >= c.slots {
		return false
	}
	c.reserved++
	return true
}

func (c *conn) usableLocked() bool {
	return c.err == nil && c.drain == drainNone && c.nextID < maxStreamID
}

// open is Connect with a slot reserved.
func (cc *ClientConn) open(ctx context.Context, h *Head) (*Stream, Response, error) {
	c := cc.c
	c.mu.Lock()
	c.reserved--
	if !c.usableLocked() {
		c.finishDrainLocked()
		c.mu.Unlock()
		return nil, Response{}, fmt.Errorf("connection is closing: %w", ErrNotProcessed)
	}
	s := c.newStream(c.nextID)
	c.nextID += 2
	c.streams[s.id] = s
	a := &answer{done: make(chan struct{})}
	s.waiting = a
	c.fields = h.AppendFields(c.fields)
	c.headersLocked(s.id, false)
	c.cfg.Metrics.StreamsOpened.Add(1)
	c.cfg.Metrics.StreamsOpen.Add(1)
	c.pushLocked()
	c.mu.Unlock()
	return s.awaitAnswer(ctx, a)
}

// awaitAnswer waits for the response head.
func (s *Stream) awaitAnswer(ctx context.Context, a *answer) (*Stream, Response, error) {
	c := s.c
	limit := time.NewTimer(c.cfg.ConnectTimeout)
	defer limit.Stop()
	goaway := c.goaway
	why := ErrTimeout
wait:
	for {
		select {
		case <-a.done:
			return s.answerOrError(a)
		case <-goaway:
			// A server that drains gracefully answers soon. Istio's does not answer at all (its CONNECTs that race a
			// drain are lost), so the wait is short and then the CONNECT, on which no byte has travelled, goes elsewhere.
			goaway = nil
			limit.Reset(c.cfg.DrainWait)
			why = ErrNotProcessed
		case <-ctx.Done():
			why = context.Cause(ctx)
			break wait
		case <-limit.C:
			break wait
		}
	}
	s.Reset(http2.ErrCodeCancel)
	c.mu.Lock()
	late, resp := s.head == headDone, a.resp
	c.mu.Unlock()
	if late && resp.Status != StatusOK {
		return nil, resp, &StatusError{resp.Status}
	}
	return nil, Response{}, why
}

func (s *Stream) answerOrError(a *answer) (*Stream, Response, error) {
	c := s.c
	c.mu.Lock()
	done, resp, err := s.head == headDone, a.resp, s.sendErr
	c.mu.Unlock()
	switch {
	case !done && errors.Is(err, ErrNotProcessed):
		return nil, Response{}, ErrNotProcessed
	case !done:
		return nil, Response{}, fmt.Errorf("CONNECT without an answer: %w", err)
	case resp.Status != StatusOK:
		s.Reset(http2.ErrCodeCancel)
		return nil, resp, &StatusError{resp.Status}
	}
	return s, resp, nil
}

// Load returns the streams open or about to be, and how many more may be opened now.
func (cc *ClientConn) Load() (open, free int) {
	c := cc.c
	c.mu.Lock()
	defer c.mu.Unlock()
	open = len(c.streams) + c.reserved
	if c.usableLocked() {
		free = max(0, c.slots-open)
	}
	return open, free
}

// Shutdown makes the connection take no new streams and end with its last one.
func (cc *ClientConn) Shutdown() {
	c := cc.c
	c.mu.Lock()
	if c.drain == drainNone {
		c.drain = drainFinal
	}
	c.finishDrainLocked()
	c.mu.Unlock()
	c.changed()
}

// Close cuts the connection; open streams end with [ErrConnLost].
func (cc *ClientConn) Close() { cc.c.fail(ErrClosed) }
