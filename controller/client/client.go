// Package client answers what the control plane says: it holds a delta xDS stream to a controller (ours or an istiod)
// and hands over batches of resources.
//
// It knows no resource type: the Handler decodes. It keeps only names and versions, so that after a reconnect the server
// sends the difference; while there is no connection, what the Handler has stays valid. A node proxy runs one Client. Dial
// also serves the CA client, which talks to the same server under the same credentials.
//
// Run owns all state; Want may be called from any goroutine. session.go is the protocol without I/O.
package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// Handler takes what arrives. Run calls it from one goroutine at a time.
type Handler interface {
	// Handle takes over a batch and returns the reason for each resource, by name, that it does not accept. What was
	// accepted before stays in force for those.
	Handle(b Batch) (rejected map[string]error)
	// Flush is called when no further response is at hand: what was handled is to become visible.
	Flush()
}

// Metrics counts; every method may be called at any time.
type Metrics interface {
	Message(typeURL string, bytes int)      // a response of so many bytes arrived
	Rejected(typeURL string, resources int) // so many resources of a response were refused
	Terminated(reason Termination)          // a stream ended
	Connected(connected bool)               // a stream is up, or none is
}

// Config says whom to ask for what.
type Config struct {
	Conn    ConnConfig
	Node    *core.Node
	Types   []Type
	Handler Handler
	Metrics Metrics // may be nil
	Log     *slog.Logger
	// Jitter spreads reconnects of many clients: it returns a number in [0, n). Nil means none.
	Jitter func(n int64) int64
}

// Client keeps a stream alive.
type Client struct {
	cfg     Config
	session *session // owned by Run
	wants   chan want

	mu      sync.Mutex
	waiters map[want][]chan struct{} // guarded by mu
}

// want is a resource someone waits for.
type want struct{ url, name string }

// New makes a client; Run starts it.
func New(cfg Config) *Client {
	if cfg.Metrics == nil {
		cfg.Metrics = noMetrics{}
	}
	if cfg.Jitter == nil {
		cfg.Jitter = func(int64) int64 { return 0 }
	}
	return &Client{
		cfg:     cfg,
		session: newSession(cfg.Node, cfg.Types),
		wants:   make(chan want, maxWants),
		waiters: map[want][]chan struct{}{},
	}
}

// maxWants bounds the on-demand questions not yet sent; more of them fail at once.
const maxWants = 1024

// ErrBusy says that too many on-demand questions wait to be sent.
var ErrBusy = errors.New("too many on-demand requests")

// Want asks for a resource of an on-demand type, by name or alias, and waits until it has arrived and been flushed, or
// the server says that there is none, or ctx ends.
func (c *Client) Want(ctx context.Context, typeURL, name string) error {
	w := want{typeURL, name}
	done := make(chan struct{})
	c.mu.Lock()
	c.waiters[w] = append(c.waiters[w], done)
	c.mu.Unlock()
	select {
	case c.wants <- w:
	default:
		c.forget(w, done)
		return ErrBusy
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		c.forget(w, done)
		return fmt.Errorf("resource %s: %w", name, ctx.Err())
	}
}

func (c *Client) forget(w want, done chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := c.waiters[w]
	for i, d := range list {
		if d == done {
			c.waiters[w] = append(list[:i:i], list[i+1:]...)
		}
	}
	if len(c.waiters[w]) == 0 {
		delete(c.waiters, w)
	}
}

// settle releases those who wait for something that a batch settles.
func (c *Client) settle(b Batch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.waiters) == 0 {
		return
	}
	release := func(name string) {
		w := want{b.TypeURL, name}
		for _, done := range c.waiters[w] {
			close(done)
		}
		delete(c.waiters, w)
	}
	for _, r := range b.Resources {
		release(r.Name)
		for _, a := range r.Aliases {
			release(a)
		}
	}
	for _, name := range b.Removed {
		release(name)
	}
}

// Run keeps a stream until ctx ends, and returns ctx's error then.
func (c *Client) Run(ctx context.Context) error {
	var p pause
	for {
		began := time.Now()
		heard, err := c.stream(ctx)
		c.cfg.Metrics.Connected(false)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		why, wait := p.next(heard, time.Since(began), err)
		wait += time.Duration(c.cfg.Jitter(int64(wait)/4 + 1))
		c.cfg.Metrics.Terminated(why)
		level := slog.LevelWarn
		if why == Reconnect || why == Complete {
			level = slog.LevelDebug
		}
		c.cfg.Log.Log(ctx, level, "xds stream ended; the last configuration stays in force", "err", err, "retry", wait)
		if err := sleep(ctx, wait); err != nil {
			return err
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// stream connects and serves one stream to its end. heard says whether the server said anything.
func (c *Client) stream(ctx context.Context) (heard bool, err error) {
	conn, err := Dial(c.cfg.Conn)
	if err != nil {
		return false, connectError{err}
	}
	defer conn.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := discovery.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		return false, connectError{err}
	}
	g, ctx := errgroup.WithContext(ctx)
	responses := make(chan *discovery.DeltaDiscoveryResponse, 1)
	g.Go(func() error {
		defer close(responses)
		return receive(ctx, s, responses)
	})
	g.Go(func() error {
		defer cancel() // ends Recv too
		var err error
		heard, err = c.serve(ctx, s, responses)
		return err
	})
	err = g.Wait() // heard is read after it
	return heard, err
}

type deltaStream = grpc.BidiStreamingClient[discovery.DeltaDiscoveryRequest, discovery.DeltaDiscoveryResponse]

// receive reads responses until the stream ends.
func receive(ctx context.Context, s deltaStream, out chan<- *discovery.DeltaDiscoveryResponse) error {
	for {
		resp, err := s.Recv()
		if err != nil {
			return err
		}
		select {
		case out <- resp:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// serve is the conversation: everything that is sent is sent here.
func (c *Client) serve(ctx context.Context, s deltaStream, responses <-chan *discovery.DeltaDiscoveryResponse) (heard bool, err error) {
	for _, req := range c.session.open() {
		if err := send(s, req, responses); err != nil {
			return false, fmt.Errorf("first request: %w", err)
		}
	}
	c.cfg.Metrics.Connected(true)
	var settled []Batch // handled and not flushed
	flush := func() {
		if len(settled) == 0 {
			return
		}
		c.cfg.Handler.Flush()
		for _, b := range settled {
			c.settle(b)
		}
		settled = nil
	}
	defer flush()
	for {
		select {
		case resp, ok := <-responses:
			if !ok {
				return heard, nil // receive's error says why
			}
			heard = true
			b := c.handle(ctx, resp)
			if err := send(s, b.answer, responses); err != nil {
				return heard, fmt.Errorf("answer: %w", err)
			}
			settled = append(settled, b.names())
			if len(responses) == 0 || len(settled) >= maxCoalesced {
				flush()
			}
		case w := <-c.wants:
			req, known := c.session.want(w.url, w.name)
			if known {
				flush() // it may be in a response that is not visible yet
				c.settle(Batch{TypeURL: w.url, Removed: []string{w.name}})
			}
			if req == nil {
				continue
			}
			if err := send(s, req, responses); err != nil {
				return heard, fmt.Errorf("subscription: %w", err)
			}
		case <-ctx.Done():
			return heard, ctx.Err()
		}
	}
}

// send writes a request. A stream that the server ended gives io.EOF here and its reason to the receiver: that one is to
// be reported, so it is waited for.
func send(s deltaStream, req *discovery.DeltaDiscoveryRequest, responses <-chan *discovery.DeltaDiscoveryResponse) error {
	err := s.Send(req)
	if errors.Is(err, io.EOF) {
		for range responses {
		}
		return nil
	}
	return err
}

// maxCoalesced bounds how many responses become visible together.
const maxCoalesced = 64

type handled struct {
	batch  Batch
	answer *discovery.DeltaDiscoveryRequest
}

// names is the batch without the bodies, which are not to be kept until the flush.
func (h handled) names() Batch {
	b := h.batch
	b.Resources = make([]Resource, len(h.batch.Resources))
	for i, r := range h.batch.Resources {
		b.Resources[i] = Resource{Name: r.Name, Aliases: r.Aliases}
	}
	return b
}

func (c *Client) handle(ctx context.Context, resp *discovery.DeltaDiscoveryResponse) handled {
	c.cfg.Metrics.Message(resp.GetTypeUrl(), proto.Size(resp))
	b, err := c.session.receive(resp)
	if err != nil {
		c.cfg.Log.WarnContext(ctx, "xds response ignored", "err", err, "type", resp.GetTypeUrl())
		return handled{b, c.session.answer(b, nil)}
	}
	rejected := c.cfg.Handler.Handle(b)
	if n := len(rejected) + len(b.broken); n > 0 {
		c.cfg.Metrics.Rejected(b.TypeURL, n)
		c.cfg.Log.WarnContext(ctx, "xds resources refused; earlier versions stay in force",
			"type", b.TypeURL, "count", n, "err", complaint(b.broken, rejected))
	}
	return handled{b, c.session.answer(b, rejected)}
}

type noMetrics struct{}

func (noMetrics) Message(string, int)    {}
func (noMetrics) Rejected(string, int)   {}
func (noMetrics) Terminated(Termination) {}
func (noMetrics) Connected(bool)         {}
