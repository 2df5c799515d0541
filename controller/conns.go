package controller

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/grpc/peer"
)

// connLimits are those of one port. Every pod of the cluster can reach it, and none may use up what is there for all.
type connLimits struct {
	port string // for logs and metrics
	most int    // connections, those that are still shaking hands included
	// perAddress is how many of them one address may have. Node proxies behind a translating gateway share it.
	perAddress int
	// unknown is what may come in on a connection, in bytes, before a node proxy has called on it; 0 is no limit. Handshake, token
	// and certificate request are a few kilobytes. gRPC takes in what comes on every stream, before and after we know whose it is.
	unknown int
}

var (
	grpcLimits    = connLimits{port: "grpc", most: 8192, perAddress: 1024, unknown: 128 << 10}
	httpLimits    = connLimits{port: "http", most: 2048, perAddress: 128}
	webhookLimits = connLimits{port: "webhook", most: 2048, perAddress: 128}
)

// writeWithin is how long a write to a connection may take; what is written at once is tens of kilobytes.
const writeWithin = 30 * time.Second

// errUnknown ends a connection of somebody who is no node proxy and sends too much.
var errUnknown = errors.New("too much was sent before a node proxy was known")

// conns is a listener that knows its connections: it bounds how many there are, how much comes from strangers and how long a
// write takes, and finds the one a call came on, to close it. gRPC by itself waits for ever for a client that does not read. It
// is safe for concurrent use.
type conns struct {
	net.Listener
	limits  connLimits
	log     *slog.Logger
	metrics *metrics
	told    rate.Sometimes

	mu        sync.Mutex
	open      map[string]*conn // by remote address and port
	addresses map[netip.Addr]int
}

func newConns(lis net.Listener, limits connLimits, log *slog.Logger, m *metrics) *conns {
	m.conns.WithLabelValues(limits.port).Set(0)
	return &conns{
		Listener: lis, limits: limits, log: log, metrics: m, told: rate.Sometimes{First: 1, Interval: 10 * time.Second},
		open: map[string]*conn{}, addresses: map[netip.Addr]int{},
	}
}

// Accept implements net.Listener. Connections above a limit are closed at once: there is nobody yet to explain it to.
func (l *conns) Accept() (net.Conn, error) {
	for {
		raw, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := &conn{Conn: raw, of: l, key: raw.RemoteAddr().String(), unknown: l.limits.unknown}
		if at, err := netip.ParseAddrPort(c.key); err == nil {
			c.address = at.Addr().Unmap()
		}
		why := l.add(c)
		if why == "" {
			return c, nil
		}
		l.refuse(c, why)
		_ = raw.Close()
	}
}

// add takes a connection in, or says why not.
func (l *conns) add(c *conn) (why string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case len(l.open) >= l.limits.most:
		return "too_many"
	case l.addresses[c.address] >= l.limits.perAddress:
		return "too_many_of_address"
	}
	l.open[c.key] = c
	l.addresses[c.address]++
	l.metrics.conns.WithLabelValues(l.limits.port).Set(float64(len(l.open)))
	return ""
}

func (l *conns) remove(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[c.key] == c {
		delete(l.open, c.key)
	}
	if l.addresses[c.address]--; l.addresses[c.address] == 0 {
		delete(l.addresses, c.address)
	}
	l.metrics.conns.WithLabelValues(l.limits.port).Set(float64(len(l.open)))
}

func (l *conns) refuse(c *conn, why string) {
	l.metrics.refusedConns.WithLabelValues(l.limits.port, why).Inc()
	l.told.Do(func() {
		l.log.Warn("connections are closed at a limit", "port", l.limits.port, "reason", why, "address", c.address.String())
	})
}

// of finds the connection that a call came on; nil if it is gone.
func (l *conns) of(ctx context.Context) *conn {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open[p.Addr.String()]
}

// hangUp returns what closes the connection that a call came on.
func (l *conns) hangUp(ctx context.Context) func() {
	c := l.of(ctx)
	return func() {
		if c != nil {
			_ = c.Close()
		}
	}
}

// nodeProxy notes that a node proxy has called on a connection: it may send as much as it likes.
func (l *conns) nodeProxy(ctx context.Context) {
	if c := l.of(ctx); c != nil {
		c.known.Store(true)
	}
}

type conn struct {
	net.Conn
	of      *conns
	key     string
	address netip.Addr
	once    sync.Once

	known   atomic.Bool // a node proxy has called
	unknown int         // what may come before; the reader's only
}

// Read implements net.Conn.
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.of.limits.unknown == 0 || c.known.Load() {
		return n, err
	}
	if c.unknown -= n; c.unknown < 0 {
		c.of.refuse(c, "too_much_of_unknown")
		_ = c.Close()
		return 0, errUnknown
	}
	return n, err
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
	c.once.Do(func() { c.of.remove(c) })
	return c.Conn.Close()
}
