// Package xds answers what each node proxy must be told, and tells it: delta xDS for workloads and authorization policies.
//
// Table holds the resources, encoded once. A session (pure) knows what one client has been told; a stream is the thin shell
// that reads requests into it and sends what it says. It knows nothing of Kubernetes. The root package publishes into the
// Table and registers the Server at a gRPC server made with Codec. Everything exported but Batch is safe for concurrent use.
//
//	Publish ─► Table ─(wake)─► stream ─► session.next ─► send, shared frames
//	                            ▲ requests, ACKs, NACKs
package xds

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"golang.org/x/time/rate"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ambit-mesh/ambit/controller/auth"
)

// firstRequest is how long a client may take to say who it is.
const firstRequest = 10 * time.Second

// Config is what a Server needs.
type Config struct {
	Table   *Table
	Auth    auth.Calls
	Log     *slog.Logger
	Metrics *Metrics
	// Admit decides whether an authenticated caller may read the mesh's configuration; nil admits all.
	Admit func(auth.Caller) error
	// HangUp returns what closes the connection that a call came on; nil if connections cannot be closed.
	HangUp func(context.Context) func()
}

// Server serves envoy.service.discovery.v3.AggregatedDiscoveryService.
type Server struct {
	discovery.UnimplementedAggregatedDiscoveryServiceServer
	cfg        Config
	complaints *quiet
	turns      chan struct{}
	leaving    chan struct{} // closed when clients are asked to leave

	mu       sync.Mutex
	next     uint64
	closed   bool // no client is taken any more
	streams  map[uint64]*stream
	places   int
	perNode  map[string]int // places, by account and node
	versions map[string]int
}

// New makes a server.
func New(cfg Config) *Server {
	if cfg.HangUp == nil {
		cfg.HangUp = func(context.Context) func() { return func() {} }
	}
	return &Server{
		cfg: cfg, complaints: newQuiet(time.Second, 20), turns: make(chan struct{}, atOnce), leaving: make(chan struct{}),
		streams: map[uint64]*stream{}, perNode: map[string]int{}, versions: map[string]int{},
	}
}

// DeltaAggregatedResources serves one client until it leaves.
func (s *Server) DeltaAggregatedResources(gs wireStream) error {
	caller, err := s.cfg.Auth.Authenticate(gs.Context())
	if err != nil {
		s.refuse("unauthenticated", caller, err)
		return status.Error(auth.Code(err), err.Error())
	}
	if s.cfg.Admit != nil {
		if err := s.cfg.Admit(caller); err != nil {
			s.refuse("not_admitted", caller, err)
			return status.Error(codes.PermissionDenied, err.Error())
		}
	}
	if caller.Node != "" { // else it is where its first request says
		leave, err := s.place(caller, caller.Node)
		if err != nil {
			return err
		}
		defer leave()
	}
	done, err := s.turn(gs.Context())
	if err != nil {
		return err
	}
	defer done()
	requests, errs := receive(gs)
	first, err := s.first(requests, errs)
	if first == nil {
		return err
	}
	if first.err != nil {
		s.refuse("bad_request", caller, first.err)
		return first.err
	}
	node, err := parseNode(first.node, caller)
	if err != nil {
		s.refuse("bad_node", caller, err)
		return err
	}
	if caller.Node == "" {
		leave, err := s.place(caller, node.node)
		if err != nil {
			return err
		}
		defer leave()
	}
	st, err := s.open(gs.Context(), caller, node)
	if err != nil {
		return err
	}
	defer s.close(st)
	return st.run(gs, first, requests, errs, done)
}

// first waits for the first request; nil if the stream ends without one.
func (s *Server) first(requests <-chan *request, errs <-chan error) (*request, error) {
	timer := time.NewTimer(firstRequest)
	defer timer.Stop()
	select {
	case first := <-requests:
		return first, nil
	case err := <-errs:
		return nil, ended(err)
	case <-s.leaving:
		return nil, errShuttingDown
	case <-timer.C:
		s.cfg.Metrics.timeouts.Inc()
		return nil, status.Errorf(codes.DeadlineExceeded, "no request came within %s", firstRequest)
	}
}

func (s *Server) refuse(reason string, caller auth.Caller, err error) {
	s.cfg.Metrics.refused.WithLabelValues(reason).Inc()
	if left, ok := s.complaints.allow(time.Now()); ok {
		s.cfg.Log.Warn("xds client refused", "caller", caller, "reason", err.Error(), "not_logged", left)
	}
}

// receive reads requests in a goroutine of its own, which ends with the stream: RecvMsg fails once the handler has returned.
func receive(gs wireStream) (<-chan *request, <-chan error) {
	requests := make(chan *request)
	errs := make(chan error, 1)
	go func() {
		for {
			req := &request{}
			if err := gs.RecvMsg(req); err != nil {
				errs <- err
				return
			}
			select {
			case requests <- req:
			case <-gs.Context().Done():
				errs <- gs.Context().Err()
				return
			}
		}
	}()
	return requests, errs
}

func ended(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

var (
	errGoAway       = status.Error(codes.Unavailable, "controller asks its clients to reconnect")
	errShuttingDown = status.Error(codes.Unavailable, "controller is shutting down")
)

func (s *Server) open(ctx context.Context, caller auth.Caller, n node) (*stream, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errShuttingDown
	}
	s.next++
	st := &stream{
		srv: s, id: s.next, caller: caller, node: n, since: time.Now(), leave: make(chan struct{}), session: newSession(n),
		asks: rate.NewLimiter(asksPerSecond, asksAtOnce), hangUp: s.cfg.HangUp(ctx), rejected: map[string]int{},
		version: versionLabel(s.versions, n.version),
	}
	s.streams[st.id] = st
	s.cfg.Metrics.connected(s.versions, st.version, 1)
	s.cfg.Log.Info("xds client connected", "client", n.id, "caller", caller)
	return st, nil
}

func (s *Server) close(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.streams, st.id)
	s.cfg.Metrics.connected(s.versions, st.version, -1)
	s.cfg.Log.Info("xds client left", "client", st.node.id, "caller", st.caller)
}
