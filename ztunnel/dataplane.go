package ztunnel

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ambit-mesh/ambit/controller/api/spiffe"
	"github.com/ambit-mesh/ambit/ztunnel/cert"
	"github.com/ambit-mesh/ambit/ztunnel/hbone"
	"github.com/ambit-mesh/ambit/ztunnel/inbound"
	"github.com/ambit-mesh/ambit/ztunnel/inpod"
	"github.com/ambit-mesh/ambit/ztunnel/outbound"
	"github.com/ambit-mesh/ambit/ztunnel/sockets"
	"github.com/ambit-mesh/ambit/ztunnel/state"
	"github.com/ambit-mesh/ambit/ztunnel/telemetry"
)

// dataplane is what connections go through, and nothing else: tests join several in memory.
type dataplane struct {
	pods     *inpod.Pods
	outbound *outbound.Outbound
	inbound  *inbound.Inbound
	tunnels  *hbone.Metrics
}

// parts are what a dataplane is made of.
type parts struct {
	store     *state.Store
	dialer    sockets.Dialer
	certs     certificates
	telemetry *telemetry.Telemetry
	log       *slog.Logger
	metrics   prometheus.Registerer

	resolver outbound.Resolver                                                           // may be nil
	dns      func(ctx context.Context, p *inpod.Pod, udp *net.UDPConn, tcp net.Listener) // may be nil
	ask      func(netip.Addr)                                                            // may be nil
	release  func(*sockets.Pod)                                                          // may be nil
	synced   func()                                                                      // may be nil
	drain    func(deadline time.Time)                                                    // may be nil
	limits   inpod.Limits
	hold     time.Duration // for what has not arrived yet; zero is the default
	streams  hbone.Config
	pool     hbone.PoolConfig

	handshakeTimeout time.Duration // zero is the default
	handshakeLimit   int           // of the process; zero is the default
}

// certificates is what the data plane needs of a *cert.Store.
type certificates interface {
	Get(ctx context.Context, id spiffe.ID) (*cert.Certificate, error)
	Hold(id spiffe.ID) (release func())
}

func newDataplane(p parts) *dataplane {
	d := &dataplane{tunnels: new(hbone.Metrics)}
	handshakes := &hbone.Handshaker{Timeout: p.handshakeTimeout, Limit: p.handshakeLimit, Metrics: d.tunnels}
	p.streams.Metrics, p.streams.Log = d.tunnels, p.log
	p.pool.Conn.Metrics, p.pool.Conn.Log = d.tunnels, p.log

	d.outbound = outbound.New(outbound.Config{
		Store: p.store, Dialer: p.dialer, Certs: p.certs, Telemetry: p.telemetry, Log: p.log, Metrics: p.metrics,
		Pool: p.pool, Handshakes: handshakes, Resolver: p.resolver, Ask: p.ask, HoldLimit: p.hold,
	})
	d.inbound = inbound.New(inbound.Config{
		Store: p.store, Dialer: p.dialer, Certs: p.certs, Telemetry: p.telemetry, Log: p.log,
		HBONE: p.streams, Handshakes: handshakes, HoldLimit: p.hold,
	})
	d.pods = inpod.New(inpod.Config{
		Handlers: inpod.Handlers{
			Outbound: d.outbound.Serve, Plaintext: d.inbound.ServePlaintext, Tunnel: d.inbound.ServeTunnel, DNS: p.dns,
			Attend: func(ctx context.Context, pod *inpod.Pod) { d.attend(ctx, pod, p) },
			Ended: func(pod *inpod.Pod) {
				if p.release != nil {
					p.release(pod.Pod)
				}
			},
		},
		Store: p.store, Log: p.log, Metrics: p.metrics, Limits: p.limits, Synced: p.synced, Drain: p.drain,
	})
	return d
}

// attend accompanies a pod: its tunnels, and its certificate, asked for before a connection needs it.
func (d *dataplane) attend(ctx context.Context, pod *inpod.Pod, p parts) {
	var tunnels sync.WaitGroup
	defer tunnels.Wait()
	tunnels.Go(func() { d.outbound.Attend(ctx, pod) })
	w, _, err := p.store.WaitLocal(ctx, pod.Key)
	if err != nil {
		return // the pod has ended
	}
	release := p.certs.Hold(w.Identity())
	defer release()
	<-ctx.Done()
}
