package sockets

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ambit-mesh/ambit/agent/api"
)

// Config is what a Client needs.
type Config struct {
	Path     string // the agent's hand-off socket
	Instance string // names this process among the ztunnels of the node
	Build    string
	Handler  Handler
	Log      *slog.Logger
	Metrics  prometheus.Registerer

	// Ready is closed when everything but the agent's snapshot is in place: only then is the agent told to let older
	// ztunnels drain. Nil means at once.
	Ready <-chan struct{}
	// Budget answers how many descriptors all stocks together may take now, given how many they do take. Nil means
	// DefaultBudget.
	Budget func(stocked int) int
	// StockWait is how long a dial waits for a socket when there is none. 0 means DefaultStockWait.
	StockWait time.Duration
}

// Defaults.
const (
	DefaultBudget    = 4096
	DefaultStockWait = 5 * time.Second
	sizePeriod       = time.Second
	firstBackoff     = 20 * time.Millisecond
	lastBackoff      = 2 * time.Second
	helloTimeout     = 10 * time.Second
)

// Client holds the pods' sockets and keeps the connection to the agent.
//
//	dial -> hello -> welcome -> return what is held -> snapshot -> ready -> live
//	  ^                                                                      |
//	  +------------- wait 20 ms to 2 s; listeners and stocks stay -----------+
type Client struct {
	cfg     Config
	metrics *metrics
	refill  *queue

	mu       sync.Mutex
	pods     map[string]*entry
	session  *session // nil while the agent is away
	draining bool     // we stopped accepting; said to every agent
}

// New makes a client; Run connects it.
func New(cfg Config) *Client {
	if cfg.Budget == nil {
		cfg.Budget = func(int) int { return DefaultBudget }
	}
	if cfg.StockWait == 0 {
		cfg.StockWait = DefaultStockWait
	}
	if cfg.Ready == nil {
		ready := make(chan struct{})
		close(ready)
		cfg.Ready = ready
	}
	return &Client{cfg: cfg, metrics: newMetrics(cfg.Metrics), refill: newQueue(), pods: map[string]*entry{}}
}

// Run keeps the connection to the agent until ctx ends, and then lets go of every socket it still holds.
func (c *Client) Run(ctx context.Context) error {
	defer c.closeAll()
	var sizing sync.WaitGroup
	sizing.Go(func() { c.size(ctx) })
	defer sizing.Wait()
	backoff := firstBackoff
	for ctx.Err() == nil {
		s, err := c.connect(ctx)
		if err == nil {
			backoff = firstBackoff
			err = c.live(ctx, s)
		}
		if ctx.Err() != nil {
			return nil
		}
		c.cfg.Log.Warn("node agent is away, sockets are kept and it is tried again", "err", err, "after", backoff)
		select {
		case <-ctx.Done():
		case <-time.After(backoff):
		}
		backoff = min(2*backoff, lastBackoff)
	}
	return nil
}

// live serves one connection to the agent until it ends.
func (c *Client) live(ctx context.Context, s *session) error {
	c.setSession(s)
	c.metrics.connected.Set(1)
	defer c.metrics.connected.Set(0)
	defer c.metrics.reconnects.Inc()
	defer c.setSession(nil)
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(ctx, func() { s.conn.Close() })
	defer stop()
	var helpers sync.WaitGroup
	helpers.Go(func() { s.sayReady(ctx) })
	helpers.Go(func() {
		if err := s.refillStocks(ctx); err != nil {
			cancel(err)
		}
	})
	err := s.read()
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		err = cause
	}
	cancel(nil)
	s.conn.Close()
	helpers.Wait()
	s.dropAnswers()
	return err
}

// setSession says who is to be told of draining; a session that begins after Draining learns of it.
func (c *Client) setSession(s *session) {
	c.mu.Lock()
	c.session = s
	tell := s != nil && c.draining
	c.mu.Unlock()
	if tell {
		s.sayDraining()
	}
}

// Draining tells the agent that this ztunnel accepts nothing more. Sockets to dial with are still asked for.
func (c *Client) Draining() {
	c.mu.Lock()
	c.draining = true
	s := c.session
	c.mu.Unlock()
	if s != nil {
		s.sayDraining()
	}
}

// Release lets go of the sockets of a pod that was removed, when nothing dials from it any more. A pod that has come back
// meanwhile keeps its own.
func (c *Client) Release(pod *Pod) {
	c.mu.Lock()
	e := c.pods[pod.UID]
	if e == nil || e.pod != pod {
		c.mu.Unlock()
		return
	}
	delete(c.pods, pod.UID)
	c.metrics.pods.Set(float64(len(c.pods)))
	c.mu.Unlock()
	e.close()
}

// stock finds the ready-made sockets of a pod; nil for an unknown pod.
func (c *Client) stock(uid string, kind api.SocketKind) *stock {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.pods[uid]
	if e == nil {
		return nil
	}
	s := e.stocks[kind]
	if s == nil { // an address family that the agent did not name for the pod: it may know better
		s = newStock(uid, kind, c.metrics.kinds[kind], c.refill.add)
		e.stocks[kind] = s
	}
	return s
}

// size resizes all stocks every period.
func (c *Client) size(ctx context.Context) {
	tick := time.NewTicker(sizePeriod)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		stocks := c.stocks()
		demands := make([]Demand, len(stocks))
		stocked := 0
		for i, s := range stocks {
			demands[i] = s.demand(sizePeriod.Seconds())
			stocked += s.len()
		}
		for i, n := range Size(demands, c.cfg.Budget(stocked)) {
			stocks[i].resize(n)
		}
	}
}

func (c *Client) stocks() []*stock {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []*stock
	for _, e := range c.pods {
		for _, s := range e.stocks {
			all = append(all, s)
		}
	}
	return all
}

func (c *Client) closeAll() {
	c.mu.Lock()
	pods := c.pods
	c.pods = map[string]*entry{}
	c.metrics.pods.Set(0)
	c.mu.Unlock()
	for _, e := range pods {
		e.close()
	}
}

func (e *entry) close() {
	e.held.fds.Close()
	for _, s := range e.stocks {
		s.close()
	}
}

// queue is the line of stocks that need more sockets; each stands in it once.
type queue struct {
	mu     sync.Mutex
	stocks []*stock
	wake   chan struct{}
}

func newQueue() *queue { return &queue{wake: make(chan struct{}, 1)} }

func (q *queue) add(s *stock) {
	if !s.enqueue() {
		return
	}
	q.mu.Lock()
	q.stocks = append(q.stocks, s)
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *queue) drain() []*stock {
	q.mu.Lock()
	defer q.mu.Unlock()
	stocks := q.stocks
	q.stocks = nil
	return stocks
}
