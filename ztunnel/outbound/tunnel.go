package outbound

import (
	"context"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"

	"github.com/ambit-mesh/ambit/controller/api/spiffe"
	"github.com/ambit-mesh/ambit/ztunnel/baggage"
	"github.com/ambit-mesh/ambit/ztunnel/cert"
	"github.com/ambit-mesh/ambit/ztunnel/hbone"
	"github.com/ambit-mesh/ambit/ztunnel/inpod"
	"github.com/ambit-mesh/ambit/ztunnel/route"
)

// tunnel opens a stream through a tunnel of the pod's pool.
//
// A plan for the same node goes the same way for now: the kernel can carry such connections (design, section 5), and this is
// where it will be told to.
func (o *Outbound) tunnel(ctx context.Context, c *conn, plan *route.Plan) (*hbone.Stream, error) {
	if plan.Kind == route.Gateway {
		return o.acrossNetworks(ctx, c, plan)
	}
	s, _, err := o.pool(c.pod).Connect(ctx, o.key(c, plan), head(c, plan))
	return s, err
}

// pool is the tunnels of a pod.
func (o *Outbound) pool(p *inpod.Pod) *hbone.Pool {
	o.mu.Lock()
	defer o.mu.Unlock()
	pool := o.pools[p]
	if pool == nil {
		pool = hbone.NewPool(o.cfg.Pool, func(ctx context.Context, key hbone.Key) (net.Conn, error) { return o.dial(ctx, p, key) })
		o.pools[p] = pool
	}
	return pool
}

// Attend keeps the tunnels of a pod until ctx ends, which must be after its last connection.
func (o *Outbound) Attend(ctx context.Context, p *inpod.Pod) {
	pool := o.pool(p)
	_ = pool.Run(ctx) // it has no errors of its own
	o.mu.Lock()
	delete(o.pools, p)
	o.mu.Unlock()
}

// Rotated retires the tunnels made with an older certificate: they end with their last stream.
func (o *Outbound) Rotated(id spiffe.ID) {
	o.mu.Lock()
	pools := make([]*hbone.Pool, 0, len(o.pools))
	for _, p := range o.pools {
		pools = append(pools, p)
	}
	o.mu.Unlock()
	source := id.String()
	for _, p := range pools {
		p.Evict(func(k hbone.Key) bool { return k.Source == source })
	}
}

// identityError is that we cannot prove who we are.
type identityError struct{ error }

func (e identityError) Unwrap() error { return e.error }

// tlsError is a handshake that failed.
type tlsError struct{ error }

func (e tlsError) Unwrap() error { return e.error }

// dial makes a tunnel's connection: TCP from the pod, and TLS with the expected peer.
func (o *Outbound) dial(ctx context.Context, p *inpod.Pod, key hbone.Key) (net.Conn, error) {
	crt, expected, err := o.identify(ctx, key)
	if err != nil {
		return nil, err
	}
	nc, err := o.cfg.Dialer.DialTCP(ctx, p.UID, key.Addr, netip.AddrPort{})
	if err != nil {
		return nil, err
	}
	return o.shake(ctx, nc, crt.Client(expected))
}

func (o *Outbound) shake(ctx context.Context, nc net.Conn, cfg *tls.Config) (net.Conn, error) {
	t, err := o.cfg.Handshakes.Client(ctx, nc, cfg)
	if err != nil {
		return nil, tlsError{err}
	}
	return t, nil
}

// identify finds what a tunnel's handshake needs: our certificate, and who the peer may be.
func (o *Outbound) identify(ctx context.Context, key hbone.Key) (*cert.Certificate, []spiffe.ID, error) {
	source, err := spiffe.Parse(key.Source)
	if err != nil {
		return nil, nil, identityError{err}
	}
	expected := make([]spiffe.ID, 0, len(key.Dests))
	for _, d := range key.Dests {
		id, err := spiffe.Parse(d)
		if err != nil {
			return nil, nil, identityError{fmt.Errorf("of the peer: %w", err)}
		}
		expected = append(expected, id)
	}
	crt, err := o.cfg.Certs.Get(ctx, source)
	if err != nil {
		return nil, nil, identityError{err}
	}
	return crt, expected, nil
}

// key says which tunnels may carry a connection.
func (o *Outbound) key(c *conn, plan *route.Plan) hbone.Key {
	return hbone.Key{
		Source: plan.Source.Identity().String(), Dests: identityStrings(plan.Identities),
		Addr: plan.Dial, SourceIP: c.client.Addr(),
	}
}

func identityStrings(ids []spiffe.ID) []string {
	list := make([]string, len(ids))
	for i, id := range ids {
		list[i] = id.String()
	}
	return list
}

// head is what the CONNECT request says.
func head(c *conn, plan *route.Plan) *hbone.Head {
	h := &hbone.Head{
		Authority: plan.Authority, Baggage: baggage.Of(plan.Source), Forwarded: hbone.Forwarded{For: c.client},
	}
	if plan.Service != nil {
		h.Forwarded.Host = plan.Service.Hostname
	}
	putRandom(h.Traceparent.Trace[:8])
	putRandom(h.Traceparent.Trace[8:])
	putRandom(h.Traceparent.Span[:])
	return h
}

// putRandom fills eight bytes. They name a trace; nothing depends on their being hard to guess.
func putRandom(b []byte) {
	n := rand.Uint64() | 1 // an id of zeros is no id
	for i := range b {
		b[i] = byte(n >> (8 * i))
	}
}
