package controller

import (
	"context"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc/peer"
)

const (
	// maxConns bounds the connections of the gRPC port, those that are still shaking hands included.
	maxConns = 8192
	// writeWithin is how long a write to a connection may take; what is written at once is tens of kilobytes.
	writeWithin = 30 * time.Second
)

// conns is a listener that knows its connections: it bounds how many there are and how long a write to one takes, and finds the
// one a call came on, to close it. gRPC by itself waits for ever for a client that does not read. It is safe for concurrent use.
type conns struct {
	net.Listener
	most    int
	metrics *metrics

	mu   sync.Mutex
	open map[string]*conn // by remote address
}

func newConns(lis net.Listener, most int, m *metrics) *conns {
	return &conns{Listener: lis, most: most, metrics: m, open: map[string]*conn{}}
}

// Accept implements net.Listener. Connections above the limit are closed at once: there is nobody yet to explain it to.
func (l *conns) Accept() (net.Conn, error) {
	for {
		raw, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := &conn{Conn: raw, of: l, key: raw.RemoteAddr().String()}
		l.mu.Lock()
		full := len(l.open) >= l.most
		if !full {
			l.open[c.key] = c
			l.metrics.conns.Set(float64(len(l.open)))
		}
		l.mu.Unlock()
		if !full {
			return c, nil
		}
		l.metrics.refusedConns.Inc()
		_ = raw.Close()
	}
}

// hangUp returns what closes the connection that a call came on.
func (l *conns) hangUp(ctx context.Context) func() {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return func() {}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.open[p.Addr.String()]
	return func() {
		if c != nil {
			_ = c.Close()
		}
	}
}

type conn struct {
	net.Conn
	of  *conns
	key string
}

// Write implements net.Conn. A deadline that passes breaks the connection for good, as TLS must not go on after half a record.
func (c *conn) Write(b []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(writeWithin)); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.of.mu.Lock()
	if c.of.open[c.key] == c {
		delete(c.of.open, c.key)
		c.of.metrics.conns.Set(float64(len(c.of.open)))
	}
	c.of.mu.Unlock()
	return c.Conn.Close()
}
