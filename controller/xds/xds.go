// Package xds answers what each node proxy must be told, and tells it: delta xDS for workloads and authorization policies.
//
// Table holds the resources, encoded once. A session (pure) knows what one client has been told; a stream is the thin shell
// that reads requests into it and sends what it says. It knows nothing of Kubernetes. The root package publishes into the
// Table and registers the Server at a gRPC server made with Codec. Everything exported is safe for concurrent use.
//
//	Publish ─► Table ─(wake)─► stream ─► session.next ─► send, shared frames
//	                            ▲ requests, ACKs, NACKs
package xds

import (
	"errors"
	"io"
	"log/slog"
	"sync"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ambit-mesh/ambit/controller/auth"
)

// firstRequest is how long a client may take to say who it is.
const firstRequest = 10 * time.Second

// Config is what a Server needs.
type Config struct {
	Table   *Table
	Auth    auth.Authenticator
	Log     *slog.Logger
	Metrics *Metrics
	// Admit decides whether an authenticated caller may read the mesh's configuration; nil admits all.
	Admit func(auth.Caller) error
	// Done ends every stream when it is closed, so that clients reconnect elsewhere.
	Done <-chan struct{}
}

// Server serves envoy.service.discovery.v3.AggregatedDiscoveryService.
type Server struct {
	discovery.UnimplementedAggregatedDiscoveryServiceServer
	cfg Config

	mu      sync.Mutex
	next    uint64
	streams map[uint64]*stream
}

// New makes a server.
func New(cfg Config) *Server { return &Server{cfg: cfg, streams: map[uint64]*stream{}} }

// DeltaAggregatedResources serves one client until it leaves.
func (s *Server) DeltaAggregatedResources(gs discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	caller, err := auth.FromContext(gs.Context(), s.cfg.Auth)
	if err != nil {
		s.cfg.Metrics.refused.WithLabelValues("unauthenticated").Inc()
		s.cfg.Log.Warn("xds client refused", "reason", err.Error())
		return status.Error(codes.Unauthenticated, err.Error())
	}
	if s.cfg.Admit != nil {
		if err := s.cfg.Admit(caller); err != nil {
			s.cfg.Metrics.refused.WithLabelValues("not_admitted").Inc()
			s.cfg.Log.Warn("xds client refused", "caller", caller, "reason", err.Error())
			return status.Error(codes.PermissionDenied, err.Error())
		}
	}
	requests, errs := receive(gs)
	var first *discovery.DeltaDiscoveryRequest
	timer := time.NewTimer(firstRequest)
	defer timer.Stop()
	select {
	case first = <-requests:
	case err := <-errs:
		return ended(err)
	case <-s.cfg.Done:
		return shuttingDown()
	case <-timer.C:
		return status.Error(codes.DeadlineExceeded, "no request came")
	}
	node, err := parseNode(first.GetNode(), caller)
	if err != nil {
		s.cfg.Metrics.refused.WithLabelValues("bad_node").Inc()
		s.cfg.Log.Warn("xds client refused", "caller", caller, "reason", err.Error())
		return err
	}
	st := s.open(caller, node)
	defer s.close(st)
	return st.run(gs, first, requests, errs)
}

// receive reads requests in a goroutine of its own, which ends with the stream: Recv fails once the handler has returned.
func receive(gs discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) (<-chan *discovery.DeltaDiscoveryRequest, <-chan error) {
	requests := make(chan *discovery.DeltaDiscoveryRequest)
	errs := make(chan error, 1)
	go func() {
		for {
			req, err := gs.Recv()
			if err != nil {
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

func shuttingDown() error { return status.Error(codes.Unavailable, "controller is shutting down") }

func (s *Server) open(caller auth.Caller, n node) *stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next++
	st := &stream{srv: s, id: s.next, caller: caller, node: n, since: time.Now(), session: newSession(n.node)}
	s.streams[st.id] = st
	s.cfg.Metrics.clients.Set(float64(len(s.streams)))
	s.cfg.Log.Info("xds client connected", "client", n.id, "caller", caller)
	return st
}

func (s *Server) close(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.streams, st.id)
	s.cfg.Metrics.clients.Set(float64(len(s.streams)))
	s.cfg.Log.Info("xds client left", "client", st.node.id, "caller", st.caller)
}
