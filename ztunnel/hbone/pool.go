package hbone

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// Key says which connections may carry a CONNECT: those of the same source identity, which accept the same destination
// identities, between the same addresses. Identities are SPIFFE ids as strings; they are compared, never interpreted.
type Key struct {
	Source   string         // identity whose certificate the connection presents
	Dests    []string       // identities the peer may have, in order
	Addr     netip.AddrPort // where to connect
	SourceIP netip.Addr     // address to connect from
}

// poolKey is a Key that can be a map key.
type poolKey struct {
	source, dests string
	addr          netip.AddrPort
	sourceIP      netip.Addr
}

func (k *Key) comparable() poolKey {
	pk := poolKey{source: k.Source, addr: k.Addr, sourceIP: k.SourceIP}
	if len(k.Dests) == 1 {
		pk.dests = k.Dests[0]
	} else {
		pk.dests = strings.Join(k.Dests, "\n") // no identity holds a newline
	}
	return pk
}

// DialFunc makes the connection for a key: TCP and TLS, with the peer verified to be one of key.Dests.
type DialFunc func(ctx context.Context, key Key) (net.Conn, error)

// Pool shares client connections among CONNECTs. Make one per pod with [NewPool]; all methods may be called concurrently. No
// lock is held while dialing: the first CONNECT for a key starts one dial, others wait for its result, and a failure
// is told to all who waited.
type Pool struct {
	cfg  PoolConfig
	dial DialFunc

	mu      sync.Mutex
	entries map[poolKey]*entry
	live    map[*dialing]context.CancelFunc // dials in progress and the connections they became
	closed  bool
	work    sync.WaitGroup // one for each in live
}

// entry is all that is known for one key; the pool's mu guards it.
type entry struct {
	key     Key
	conns   []*pooled
	dialing *dialing
}

type pooled struct {
	*ClientConn
	born, idleSince time.Time // idleSince is zero while there are streams
	retired         bool
}

// dialing is a dial in progress; err is set before done is closed.
type dialing struct {
	done  chan struct{}
	err   error
	stale bool // evicted before it was done; the pool's mu guards it
}

// NewPool makes a pool. The caller must call Run, which owns everything the pool starts.
func NewPool(cfg PoolConfig, dial DialFunc) *Pool {
	return &Pool{
		cfg: cfg.withDefaults(), dial: dial,
		entries: make(map[poolKey]*entry), live: make(map[*dialing]context.CancelFunc),
	}
}

// Run retires idle and old connections until ctx is cancelled, then cuts all connections and returns once every goroutine
// has ended.
func (p *Pool) Run(ctx context.Context) error {
	tick := time.NewTicker(max(p.cfg.IdleTimeout/8, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			p.mu.Lock()
			p.closed = true
			for _, cancel := range p.live {
				cancel()
			}
			p.mu.Unlock()
			p.work.Wait()
			return nil
		case now := <-tick.C:
			p.sweep(now)
		}
	}
}

// maxAttempts bounds how often one CONNECT is sent.
const maxAttempts = 3

// Connect opens a tunnel over a connection for key, dialing if none has room. A CONNECT that the peer has certainly not
// acted on, or that was pending when the server said GOAWAY or an older connection broke, is sent again on another connection: no
// byte of payload has travelled then.
func (p *Pool) Connect(ctx context.Context, key Key, h *Head) (*Stream, Response, error) {
	var last error
	var refused *pooled // did not take it; its peer may be full
	for range maxAttempts {
		c, fresh, err := p.get(ctx, key, refused)
		if err != nil {
			return nil, Response{}, err
		}
		s, resp, err := c.open(ctx, h)
		again := errors.Is(err, ErrNotProcessed) || errors.Is(err, ErrConnLost) && !fresh
		if !again || ctx.Err() != nil {
			return s, resp, err
		}
		p.cfg.Conn.Metrics.PoolResent.Add(1)
		last, refused = err, c
	}
	return nil, Response{}, fmt.Errorf("%d attempts: %w", maxAttempts, last)
}

// get returns a connection other than avoid with a slot reserved; fresh says that it was dialed for this caller.
func (p *Pool) get(ctx context.Context, key Key, avoid *pooled) (c *pooled, fresh bool, err error) {
	m := p.cfg.Conn.Metrics
	pk := key.comparable()
	for {
		p.mu.Lock()
		if p.closed {
			p.mu.Unlock()
			return nil, false, ErrClosed
		}
		e := p.entries[pk]
		if e == nil {
			key.Dests = append([]string(nil), key.Dests...)
			e = &entry{key: key}
			p.entries[pk] = e
		}
		if c := p.pickLocked(ctx, pk, e, avoid); c != nil {
			p.mu.Unlock()
			if !fresh {
				m.PoolHits.Add(1)
			}
			return c, fresh, nil
		}
		d := e.dialing
		if d == nil {
			if d, err = p.startLocked(ctx, pk, e); err != nil {
				p.mu.Unlock()
				return nil, false, err
			}
		}
		p.mu.Unlock()
		fresh = true
		m.PoolWaits.Add(1)
		select {
		case <-d.done:
			if d.err != nil {
				return nil, false, d.err
			}
		case <-ctx.Done():
			return nil, false, context.Cause(ctx)
		}
	}
}

// pickLocked reserves a slot on the least loaded connection, and starts another connection if bulk would gain from it.
func (p *Pool) pickLocked(ctx context.Context, pk poolKey, e *entry, avoid *pooled) *pooled {
	var best *pooled
	least, usable := 0, 0
	for _, c := range e.conns {
		open, free := c.Load()
		if c.retired || c == avoid || free == 0 {
			continue
		}
		usable++
		if best == nil || open < least {
			best, least = c, open
		}
	}
	if best == nil || !best.reserve() {
		return nil
	}
	best.idleSince = time.Time{}
	if least >= p.cfg.SpreadAt && usable < p.cfg.Spread && e.dialing == nil {
		p.startLocked(ctx, pk, e) // at a limit the present connection does
	}
	return best
}

// startLocked begins a dial that outlives its caller, whose context only lends its values.
func (p *Pool) startLocked(ctx context.Context, pk poolKey, e *entry) (*dialing, error) {
	m := p.cfg.Conn.Metrics
	if len(e.conns) >= p.cfg.MaxConnsPerKey || len(p.live) >= p.cfg.MaxConns {
		m.PoolLimited.Add(1)
		p.dropLocked(pk, e)
		return nil, ErrLimit
	}
	m.PoolDials.Add(1)
	d := &dialing{done: make(chan struct{})}
	e.dialing = d
	ctx, p.live[d] = context.WithCancel(context.WithoutCancel(ctx))
	p.work.Go(func() { p.run(ctx, pk, e, d) })
	return d, nil
}

// run dials, publishes the result, and serves the connection until it ends.
func (p *Pool) run(ctx context.Context, pk poolKey, e *entry, d *dialing) {
	limited, cancel := context.WithTimeout(ctx, p.cfg.DialTimeout)
	nc, err := p.dial(limited, e.key)
	cancel()
	var c *pooled
	p.mu.Lock()
	e.dialing = nil
	switch {
	case err != nil:
		p.cfg.Conn.Metrics.PoolDialErrors.Add(1)
		d.err = err
	case d.stale || p.closed:
		nc.Close() // those who wait find nothing and dial again, or are told that the pool is closed
	default:
		c = &pooled{ClientConn: NewClientConn(nc, p.cfg.Conn), born: time.Now()}
		c.c.onChange = func() { p.changed(c) }
		e.conns = append(e.conns, c)
	}
	p.mu.Unlock()
	close(d.done)
	if c != nil {
		c.Run(ctx) // why it ended, its streams and its log line say
	}

	p.mu.Lock()
	defer p.mu.Unlock()
	p.live[d]()
	delete(p.live, d)
	e.conns = slices.DeleteFunc(e.conns, func(other *pooled) bool { return other == c })
	p.dropLocked(pk, e)
}

// dropLocked forgets a key without connections.
func (p *Pool) dropLocked(pk poolKey, e *entry) {
	if len(e.conns) == 0 && e.dialing == nil && p.entries[pk] == e {
		delete(p.entries, pk)
	}
}

// changed notes when a connection becomes idle.
func (p *Pool) changed(c *pooled) {
	open, _ := c.Load()
	if open > 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.idleSince.IsZero() {
		c.idleSince = time.Now()
	}
}

// sweep retires connections that were idle for too long or are too old.
func (p *Pool) sweep(now time.Time) {
	p.mu.Lock()
	gone := p.retireLocked(func(_ *Key, c *pooled) bool {
		if now.Sub(c.born) >= p.cfg.MaxAge {
			return true
		}
		open, _ := c.Load()
		if open == 0 && c.idleSince.IsZero() {
			c.idleSince = now
		}
		return open == 0 && now.Sub(c.idleSince) >= p.cfg.IdleTimeout
	})
	p.mu.Unlock()
	p.shutdown(gone)
}

// Evict retires all connections for whose key match returns true: they take no new streams and end with their last
// one; a dial in progress is not used. Call it after the certificate of an identity was renewed, or when a pod has gone.
func (p *Pool) Evict(match func(Key) bool) {
	p.mu.Lock()
	gone := p.retireLocked(func(k *Key, _ *pooled) bool { return match(*k) })
	for _, e := range p.entries {
		if e.dialing != nil && match(e.key) {
			e.dialing.stale = true
		}
	}
	p.mu.Unlock()
	p.shutdown(gone)
}

// retireLocked marks and returns the connections for which the condition holds.
func (p *Pool) retireLocked(cond func(*Key, *pooled) bool) []*pooled {
	var gone []*pooled
	for _, e := range p.entries {
		for _, c := range e.conns {
			if !c.retired && cond(&e.key, c) {
				c.retired = true
				gone = append(gone, c)
			}
		}
	}
	return gone
}

func (p *Pool) shutdown(gone []*pooled) {
	for _, c := range gone {
		p.cfg.Conn.Metrics.PoolEvicted.Add(1)
		c.Shutdown()
	}
}

// Conns returns the number of connections open or being dialed.
func (p *Pool) Conns() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.live)
}
