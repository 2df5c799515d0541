package inbound

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/ambit-mesh/ambit/controller/api/spiffe"
	"github.com/ambit-mesh/ambit/ztunnel/baggage"
	"github.com/ambit-mesh/ambit/ztunnel/cert"
	"github.com/ambit-mesh/ambit/ztunnel/hbone"
	"github.com/ambit-mesh/ambit/ztunnel/inpod"
	"github.com/ambit-mesh/ambit/ztunnel/passthrough"
	"github.com/ambit-mesh/ambit/ztunnel/route"
	"github.com/ambit-mesh/ambit/ztunnel/shift"
	"github.com/ambit-mesh/ambit/ztunnel/sockets"
)

// tunnel is one HBONE connection, whose streams are connections of one peer.
type tunnel struct {
	in  *Inbound
	pod *inpod.Pod
	arrival
}

// ServeTunnel takes an HBONE connection from its acceptance to its end.
func (in *Inbound) ServeTunnel(ctx context.Context, p *inpod.Pod, a sockets.Accepted) shift.Job {
	t := &tunnel{in: in, pod: p, arrival: arrival{client: a.Client, dialled: a.Dest}}
	tls, err := t.shake(ctx, a.Conn)
	if err != nil {
		var known rejection
		if !errors.As(err, &known) {
			known = rejection{rejectHandshake, err}
		}
		in.reject(&conn{pod: p, arrival: &t.arrival, down: a.Conn}, known.why, known.error)
		return nil
	}
	server := hbone.NewServerConn(tls, in.cfg.HBONE, func(s *hbone.Stream, h *hbone.Head) shift.Job { return t.serve(ctx, s, h) })
	p.TrackTunnel(server)
	defer p.UntrackTunnel(server)
	if err := server.Run(ctx); err != nil && ctx.Err() == nil {
		in.cfg.Log.Debug("tunnel ended", "pod", p.Pod, "peer", t.peer.String(), "src", a.Client.String(), "err", err)
	}
	return nil
}

// rejection is an error with the reason to count it by.
type rejection struct {
	why string
	error
}

func (r rejection) Unwrap() error { return r.error }

// shake learns who the peer is. It is bounded in time, and in number for the pod and for the process.
func (t *tunnel) shake(ctx context.Context, nc *net.TCPConn) (*hbone.TLSConn, error) {
	done := t.pod.Handshake(func() { passthrough.Reset(nc) })
	defer done()
	_, w := t.in.workload(ctx, t.pod)
	if w == nil {
		return nil, rejection{rejectWorkload, errUnknownPod}
	}
	crt, err := t.certificate(ctx, w.Identity())
	if err != nil {
		return nil, rejection{rejectCertificate, err}
	}
	tls, err := t.in.cfg.Handshakes.Server(ctx, nc, crt.Server())
	if err != nil {
		return nil, err
	}
	if t.peer, err = cert.PeerIdentity(tls.ConnectionState()); err != nil {
		tls.Close()
		return nil, err
	}
	return tls, nil
}

func (t *tunnel) certificate(ctx context.Context, id spiffe.ID) (*cert.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, t.in.cfg.HoldLimit)
	defer cancel()
	return t.in.cfg.Certs.Get(ctx, id)
}

// serve takes one connection within the tunnel from its CONNECT to its record. What is left when it returns is its job.
func (t *tunnel) serve(ctx context.Context, s *hbone.Stream, h *hbone.Head) shift.Job {
	c := &conn{pod: t.pod, arrival: &t.arrival, stream: s, start: time.Now()}
	if err := t.pod.Enter(); err != nil {
		_ = s.Refuse(hbone.StatusUnavailable) // a peer that is gone needs no answer
		t.in.reject(c, rejectLimit, err)
		return nil
	}
	if !t.establish(ctx, c, h) {
		c.End()
		return nil
	}
	return c
}

// establish places, judges and opens the connection; true says that it is to be relayed. Otherwise it is answered and
// recorded.
func (t *tunnel) establish(ctx context.Context, c *conn, h *hbone.Head) (going bool) {
	defer t.pod.Guard("stream")
	in, s := t.in, c.stream
	e := in.place(ctx, c, h.Authority) // where in this pod; held while that is not known
	if e.Status != 0 {
		in.recordTunnel(c, h, &e)
		c.refuse(e.Status, e.Reason)
		return false
	}
	c.workload, c.target = e.Workload.UID, e.Target
	t.pod.Track(c) // before the judgement, so that no change of policy falls in between

	d := in.authorize(ctx, c) // answers that are only missing are waited for
	in.recordTunnel(c, h, &e)
	in.rehearsed(c, d)
	if !d.Allowed() {
		c.deny(d)
		return false
	}
	c.allowed(d)
	up, err := in.dial(ctx, c, e.Connect, h.Forwarded.For)
	if err == nil {
		err = c.established(up)
	}
	if err == nil && e.Proxy {
		err = writeProxyHeader(up, t.client, e.ProxyDestination, t.peer)
	}
	if err == nil {
		err = s.Accept(baggage.Of(e.Workload))
	}
	if err == nil {
		return true
	}
	if up != nil {
		passthrough.Reset(up)
	}
	_ = s.Refuse(hbone.StatusUnavailable)
	c.fail(err)
	return false
}

// place answers where in the pod a CONNECT request goes. While that is not known it is held, for HoldLimit at most.
func (in *Inbound) place(ctx context.Context, c *conn, authority string) route.Entry {
	e := route.Entry{Status: hbone.StatusUnavailable, Reason: route.NotSynced}
	var timeout <-chan time.Time
	for {
		snap := in.cfg.Store.Load()
		a := route.Arrival{Peer: c.client, Dialled: c.dialled, Authority: authority}
		if w := c.pod.Workload(snap); w != nil {
			a.Workload = w.UID
		}
		e = route.ResolveInbound(snap, a)
		if e.Status == 0 || e.Reason != route.NotSynced && e.Reason != route.SourceUnknown {
			return e
		}
		if timeout == nil {
			timer := time.NewTimer(in.cfg.HoldLimit)
			defer timer.Stop()
			timeout = timer.C
		}
		select {
		case <-snap.Replaced():
		case <-c.gone():
			return e
		case <-timeout:
			return e
		case <-ctx.Done():
			return e
		}
	}
}
