package controller

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime/debug"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/ambit-mesh/ambit/controller/ca"
	"github.com/ambit-mesh/ambit/controller/xds"
)

const (
	// maxReceive bounds a request: one that lists 500,000 resources at a reconnect fits.
	maxReceive = 64 << 20
	// pingsAtLeast is how often clients may ping; Istio's ztunnel does every 30 s.
	pingsAtLeast = 10 * time.Second
	// connectionAge is how long a client keeps its connection, so that clients spread over replicas; gRPC adds jitter.
	connectionAge = 30 * time.Minute
	// leaveGap is the time between two clients that are asked to leave at the end, leaveWithin that for all of them.
	leaveGap, leaveWithin = 10 * time.Millisecond, 5 * time.Second
	// scrapeWithin is how long a request to the public HTTP port may take to come, and its answer to go.
	scrapeWithin = 30 * time.Second
	// goodbye is how long clients and requests have once they have been asked.
	goodbye = 5 * time.Second
	// window is how much of a client's request may be in memory before it is read, in bytes. A request that is being read is
	// taken whole.
	window = 64 << 10
	// connWindow is how much a client may send before it hears that it arrived, in bytes. It is no matter of memory: gRPC gives it
	// back on arrival, in quarters, and a small one would be a write for every 16 KiB of a request.
	connWindow = 1 << 20
	// maxHeaders bounds the headers of a call, in bytes: a token and little else.
	maxHeaders = 64 << 10
	// maxStreams bounds the streams of one connection; a node proxy needs one and a few certificate calls.
	maxStreams = 256
)

type listeners struct{ grpc, http, debug net.Listener }

func listen(cfg Config) (l listeners, err error) {
	defer func() {
		if err != nil {
			for _, open := range []net.Listener{l.grpc, l.http} {
				if open != nil {
					err = errors.Join(err, open.Close())
				}
			}
		}
	}()
	if l.grpc, err = net.Listen("tcp", cfg.GRPC); err != nil {
		return l, fmt.Errorf("grpc port: %w", err)
	}
	if l.http, err = net.Listen("tcp", cfg.HTTP); err != nil {
		return l, fmt.Errorf("http port: %w", err)
	}
	if cfg.Debug == "" {
		return l, nil
	}
	if host, _, err := net.SplitHostPort(cfg.Debug); err != nil || !loopback(host) {
		return l, fmt.Errorf("debug address %s: want a loopback address", cfg.Debug)
	}
	if l.debug, err = net.Listen("tcp", cfg.Debug); err != nil {
		return l, fmt.Errorf("debug port: %w", err)
	}
	return l, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func newGRPC(cert *servingCert, m *metrics, xs *xds.Server, cs *ca.Server) *grpc.Server {
	s := grpc.NewServer(
		grpc.Creds(credentials.NewTLS(serverTLS(cert))),
		grpc.ForceServerCodecV2(xds.Codec()),
		grpc.MaxRecvMsgSize(maxReceive),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.MaxHeaderListSize(maxHeaders),
		grpc.StaticStreamWindowSize(window), // fixed: a window that grows with the link would hold megabytes for each client that reconnects
		grpc.StaticConnWindowSize(connWindow),
		experimental.BufferPool(xds.Buffers()),
		grpc.ReadBufferSize(0), // TLS has one: another is 32 KiB for each client, and a copy of what it sends
		grpc.ConnectionTimeout(10*time.Second),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: pingsAtLeast, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 10 * time.Second, MaxConnectionAge: connectionAge, MaxConnectionAgeGrace: 10 * time.Second}),
		grpc.StreamInterceptor(func(srv any, st grpc.ServerStream, _ *grpc.StreamServerInfo, h grpc.StreamHandler) (err error) {
			defer m.recovered(&err)
			return h(srv, st)
		}),
	)
	discovery.RegisterAggregatedDiscoveryServiceServer(s, xs)
	cs.Register(s)
	return s
}

// serverTLS asks for a client certificate and does not insist. Package auth checks it, at every call: so that a caller learns
// why it is refused, which it would not in a handshake.
func serverTLS(cert *servingCert) *tls.Config {
	return &tls.Config{
		GetCertificate: cert.get, ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2"},
	}
}

// recovered keeps one client's request from ending everybody's controller. It is counted, and never expected.
func (m *metrics) recovered(err *error) {
	if r := recover(); r != nil {
		m.panics.Inc()
		m.log.Error("request handler panicked", "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
		*err = status.Error(codes.Internal, "internal error")
	}
}

// serveGRPC serves until ctx ends. Then no connection is taken any more, and the clients are sent elsewhere little by little.
func serveGRPC(ctx context.Context, s *grpc.Server, lis net.Listener, xs *xds.Server) error {
	served := make(chan error, 1)
	go func() { served <- s.Serve(lis) }()
	select {
	case err := <-served:
		return fmt.Errorf("grpc server: %w", err)
	case <-ctx.Done():
	}
	stopped := make(chan struct{})
	go func() { s.GracefulStop(); close(stopped) }()
	xs.Drain(context.WithoutCancel(ctx), leaveGap, leaveWithin)
	select {
	case <-stopped:
	case <-time.After(goodbye):
		s.Stop()
		<-stopped
	}
	<-served
	return nil
}

func newHTTP(h http.Handler) *http.Server {
	return &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 64 << 10}
}

func serveHTTP(ctx context.Context, s *http.Server, lis net.Listener) error {
	served := make(chan error, 1)
	go func() { served <- s.Serve(lis) }()
	select {
	case err := <-served:
		return fmt.Errorf("http server: %w", err)
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbye)
	defer cancel()
	if err := s.Shutdown(stop); err != nil {
		_ = s.Close() // a request that would not end
	}
	<-served
	return nil
}
