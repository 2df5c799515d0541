package outbound

import (
	"context"
	"net"
	"net/netip"
	"time"

	"golang.org/x/net/http2"

	"github.com/ambit-mesh/ambit/ztunnel/hbone"
	"github.com/ambit-mesh/ambit/ztunnel/route"
)

// acrossNetworks opens a tunnel within a tunnel (ztunnel.md 2.8): the outer one ends at the gateway of the other network, the
// inner one at the endpoint that the gateway chooses. Only the outer one is shared; the inner lives as long as the
// connection.
func (o *Outbound) acrossNetworks(ctx context.Context, c *conn, plan *route.Plan) (*hbone.Stream, error) {
	crt, inner, err := o.identify(ctx, hbone.Key{Source: plan.Source.Identity().String(), Dests: identityStrings(plan.InnerIdentities)})
	if err != nil {
		return nil, err
	}
	h := head(c, plan)
	outer, _, err := o.pool(c.pod).Connect(ctx, o.key(c, plan), h)
	if err != nil {
		return nil, err
	}
	nc, err := o.shake(ctx, &streamConn{Stream: outer, local: c.client, remote: plan.Dial}, crt.Client(inner))
	if err != nil {
		return nil, err
	}
	client := hbone.NewClientConn(nc, o.cfg.Pool.Conn)
	ended := make(chan struct{})
	run, cancel := context.WithCancel(context.WithoutCancel(ctx)) // ends with the connection: see below
	go func() {
		defer close(ended)
		_ = client.Run(run) // the stream and its record say why it ended
	}()
	c.inner = func() {
		cancel()
		<-ended
	}
	h.Network = plan.Source.Network
	s, _, err := client.Connect(ctx, h)
	return s, err
}

// streamConn is a stream as TLS wants it.
type streamConn struct {
	*hbone.Stream
	local, remote netip.AddrPort
	timer         *time.Timer
}

func (s *streamConn) LocalAddr() net.Addr  { return net.TCPAddrFromAddrPort(s.local) }
func (s *streamConn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(s.remote) }

// SetDeadline resets the stream at t. It serves the handshake's one deadline and its removal, from one goroutine.
func (s *streamConn) SetDeadline(t time.Time) error {
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
	if !t.IsZero() {
		s.timer = time.AfterFunc(time.Until(t), func() { s.Reset(http2.ErrCodeCancel) })
	}
	return nil
}

// SetReadDeadline implements net.Conn; nobody bounds reads alone.
func (s *streamConn) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline implements net.Conn. The engine bounds its goodbyes with it; here the outer tunnel's own pings do.
func (s *streamConn) SetWriteDeadline(time.Time) error { return nil }
