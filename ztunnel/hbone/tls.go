package hbone

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/ambit-mesh/ambit/ztunnel/hbone/batch"
)

// ErrTooManyHandshakes says that [Handshaker].Limit was reached; the connection has been closed.
var ErrTooManyHandshakes = errors.New("hbone: too many TLS handshakes in progress")

// TLSConn is a TLS connection whose records travel in batches. Its handshake is done.
type TLSConn struct {
	*tls.Conn
	records *batch.Conn
}

// hangUp closes the socket without a TLS goodbye, which could block behind a stuck write.
func (t *TLSConn) hangUp() { t.records.Conn.Close() }

// CloseWrite sends TLS's and then TCP's end of data.
func (t *TLSConn) CloseWrite() error {
	if err := t.Conn.CloseWrite(); err != nil {
		return err
	}
	if half, ok := t.records.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// Handshaker does TLS handshakes that take bounded time and number. The zero value is ready; share one among the
// connections that shall share the limit. Methods may be called concurrently.
type Handshaker struct {
	// Timeout bounds one handshake, from the first byte waited for to the last (default 10 s).
	Timeout time.Duration
	// Limit bounds the handshakes in progress (default 10,000). A peer that has connected and says nothing counts, but
	// costs little more than its socket.
	Limit int
	// Metrics receives counts; nil discards them.
	Metrics *Metrics

	pending atomic.Int64
}

// Client does the client's handshake on nc, which it closes on error. cfg needs no ServerName, but must then verify
// the peer itself (InsecureSkipVerify with VerifyConnection).
func (h *Handshaker) Client(ctx context.Context, nc net.Conn, cfg *tls.Config) (*TLSConn, error) {
	return h.shake(ctx, nc, cfg, tls.Client, false)
}

// Server does the server's handshake on nc, which it closes on error.
func (h *Handshaker) Server(ctx context.Context, nc net.Conn, cfg *tls.Config) (*TLSConn, error) {
	return h.shake(ctx, nc, cfg, tls.Server, true)
}

func (h *Handshaker) shake(ctx context.Context, nc net.Conn, cfg *tls.Config, side func(net.Conn, *tls.Config) *tls.Conn, wait bool) (*TLSConn, error) {
	m := h.Metrics
	if m == nil {
		m = new(Metrics)
	}
	limit, timeout := int64(h.Limit), h.Timeout
	def(&limit, 10_000)
	def(&timeout, 10*time.Second)
	defer h.pending.Add(-1)
	if h.pending.Add(1) > limit {
		nc.Close()
		m.HandshakesRefused.Add(1)
		return nil, ErrTooManyHandshakes
	}
	m.HandshakesPending.Add(1)
	defer m.HandshakesPending.Add(-1)

	nc.SetDeadline(time.Now().Add(timeout))
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	t := &TLSConn{records: batch.New(nc)}
	err := error(nil)
	if wait {
		err = t.records.WaitInput() // TLS state is made for peers that say something
	}
	if err == nil {
		t.Conn = side(t.records, tunnelTLS(cfg))
		err = t.Conn.Handshake()
	}
	if !stop() {
		err = errors.Join(context.Cause(ctx), err)
	}
	if err != nil {
		nc.Close()
		m.HandshakesFailed.Add(1)
		return nil, fmt.Errorf("TLS handshake: %w", err)
	}
	nc.SetDeadline(time.Time{})
	return t, nil
}

// TunnelTLS returns a copy of cfg with what every tunnel wants: TLS 1.3, ALPN h2, full-size records from the first byte on.
// Prepare a configuration once and share it; Handshaker copies those that are not prepared, for each connection.
func TunnelTLS(cfg *tls.Config) *tls.Config {
	cfg = cfg.Clone()
	cfg.MinVersion = max(cfg.MinVersion, tls.VersionTLS13)
	cfg.NextProtos = []string{"h2"}
	cfg.SessionTicketsDisabled = true
	cfg.DynamicRecordSizingDisabled = true
	return cfg
}

func tunnelTLS(cfg *tls.Config) *tls.Config {
	if cfg.DynamicRecordSizingDisabled && cfg.MinVersion >= tls.VersionTLS13 {
		return cfg
	}
	return TunnelTLS(cfg)
}
