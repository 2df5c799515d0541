package inpod

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/ambit-mesh/ambit/ztunnel/passthrough"
	"github.com/ambit-mesh/ambit/ztunnel/shift"
	"github.com/ambit-mesh/ambit/ztunnel/sockets"
)

// Pauses after an accept that failed for want of something.
const (
	firstPause = 5 * time.Millisecond
	lastPause  = time.Second
)

// accept starts the pod's loops. They end when the listeners are closed, or with ctx.
func (p *Pod) accept(ctx context.Context) *sync.WaitGroup {
	var loops sync.WaitGroup
	h := &p.owner.cfg.Handlers
	for _, loop := range []struct {
		name   string
		from   sockets.Listener
		handle Handler
	}{
		{"outbound", p.listeners.Outbound, h.Outbound},
		{"plaintext", p.listeners.Inbound, h.Plaintext},
		{"hbone", p.listeners.HBONE, h.Tunnel},
	} {
		if loop.from == nil || loop.handle == nil {
			continue
		}
		loops.Go(func() {
			if p.mayAccept(ctx) {
				p.acceptLoop(ctx, loop.name, loop.from, loop.handle)
			}
		})
	}
	if h.DNS != nil && (p.listeners.DNSUDP != nil || p.listeners.DNSTCP != nil) {
		loops.Go(func() {
			if p.mayAccept(ctx) {
				defer p.Guard("dns")
				h.DNS(ctx, p, p.listeners.DNSUDP, p.listeners.DNSTCP)
			}
		})
	}
	return &loops
}

// mayAccept waits for the first synchronisation, but not for long.
func (p *Pod) mayAccept(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, p.owner.cfg.Limits.AcceptDelay)
	defer cancel()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = p.owner.cfg.Store.WaitSynced(ctx)
	}()
	select {
	case <-ended:
	case <-p.left:
	case <-p.gone:
	}
	cancel()
	<-ended
	select {
	case <-p.left:
		return false
	case <-p.gone:
		return false
	default:
		return true
	}
}

// acceptLoop accepts until the listener is closed.
func (p *Pod) acceptLoop(ctx context.Context, name string, from sockets.Listener, handle Handler) {
	pause := time.Duration(0)
	for {
		a, err := from.Accept()
		switch {
		case err == nil:
			pause = 0
			p.serve(ctx, name, a, handle)
			continue
		case errors.Is(err, net.ErrClosed):
			return
		case errors.Is(err, syscall.ECONNABORTED): // the client has gone; nothing is wrong here
			continue
		}
		p.owner.metrics.acceptErrors.WithLabelValues(name).Inc()
		pause = min(max(2*pause, firstPause), lastPause)
		if pause >= lastPause/2 {
			p.owner.cfg.Log.Warn("accept failed", "pod", p.Pod, "listener", name, "err", err, "after", pause)
		}
		select {
		case <-time.After(pause):
		case <-p.left:
			return
		case <-p.gone:
			return
		case <-ctx.Done():
			return
		}
	}
}

// serve hands a connection to its handler, unless the pod has too many.
func (p *Pod) serve(ctx context.Context, name string, a sockets.Accepted, handle Handler) {
	if err := p.Enter(); err != nil {
		passthrough.Reset(a.Conn)
		return
	}
	begin := func() (job shift.Job) {
		lost := true
		defer func() {
			if lost {
				passthrough.Reset(a.Conn)
			}
		}()
		defer p.Guard(name)
		job, lost = handle(ctx, p, a), false
		return job
	}
	go func() { shift.Run(begin(), p.Leave) }() // run waits for it by way of Leave
}

func withoutPort(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr(), 0) }
