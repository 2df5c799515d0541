// Package admin answers an operator's questions over HTTP: is the ztunnel ready and if not why, how is it doing, what does
// it know and hold?
//
// It is a view: it asks the parts through the functions of Config and changes nothing but the log level, and it can begin
// the drain. Three servers, so that each can be reached from where it must be and from nowhere else: readiness and metrics
// from the network, admin from the ztunnel's own pod. The paths and bodies are those of Istio's ztunnel, so that istioctl,
// probes and dashboards keep working. The ztunnel's root package makes it; handlers run concurrently.
package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/net/netutil"
	"golang.org/x/sync/errgroup"
)

const (
	// headerTimeout and headerBytes bound a request's head, idleTimeout the wait for the next one.
	headerTimeout = 2 * time.Second
	headerBytes   = 8 << 10
	idleTimeout   = time.Minute
	// bodyBytes bounds a request's body: no path reads one.
	bodyBytes = 4 << 10
	// answerTimeout bounds a request unless its handler sets another limit.
	answerTimeout = 30 * time.Second
	// maxConns bounds the connections of each server.
	maxConns = 128
	// grace is how long answers under way may take once Run is to end.
	grace = 2 * time.Second
)

// Config is what the servers show and where.
type Config struct {
	Log *slog.Logger
	// Admin, Metrics and Ready are TCP addresses, normally 127.0.0.1:15000 (and [::1]:15000), [::]:15020 and [::]:15021.
	// None of a kind: not served. Where several are given, those whose family the machine does not have are left out.
	Admin, Metrics, Ready []string

	// Readiness says what is still missing.
	Readiness *Readiness
	// Gatherer is what /metrics shows.
	Gatherer prometheus.Gatherer
	// Dump is what /config_dump shows.
	Dump Sources
	// Level is the level of the process's log, changed by /logging.
	Level *slog.LevelVar
	// Quit begins the drain and returns at once (/quitquitquit).
	Quit func()
}

// Server is the three servers.
type Server struct {
	cfg   Config
	parts []part
}

// part is one listener with what it serves.
type part struct {
	name     string
	listener net.Listener
	handler  http.Handler
}

// New binds the addresses. Run serves; without Run, Close lets go of them.
func New(ctx context.Context, cfg Config) (*Server, error) {
	if cfg.Log == nil || cfg.Readiness == nil || cfg.Gatherer == nil || cfg.Level == nil || cfg.Quit == nil {
		return nil, errors.New("admin: log, readiness, gatherer, level and quit are required")
	}
	s := &Server{cfg: cfg}
	for _, kind := range []struct {
		name    string
		addrs   []string
		handler http.Handler
	}{
		{"admin", cfg.Admin, adminHandler(cfg)},
		{"metrics", cfg.Metrics, metricsHandler(cfg.Gatherer)},
		{"ready", cfg.Ready, readyHandler(cfg.Readiness)},
	} {
		if err := s.listen(ctx, kind.name, kind.addrs, kind.handler); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	return s, nil
}

// listen binds as many of the addresses as there are families; it is an error if none can be bound.
func (s *Server) listen(ctx context.Context, name string, addrs []string, handler http.Handler) error {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	var errs []error
	for _, addr := range addrs {
		l, err := lc.Listen(ctx, "tcp", addr)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		s.parts = append(s.parts, part{name, netutil.LimitListener(l, maxConns), handler})
	}
	if len(errs) > 0 && (len(errs) == len(addrs) || !familyMissing(errs)) {
		return fmt.Errorf("admin: %s: %w", name, errors.Join(errs...))
	}
	return nil
}

// Addrs are the addresses bound for one of "admin", "metrics" and "ready".
func (s *Server) Addrs(name string) (addrs []net.Addr) {
	for _, p := range s.parts {
		if p.name == name {
			addrs = append(addrs, p.listener.Addr())
		}
	}
	return addrs
}

// Close lets go of the addresses of a Server that is not run.
func (s *Server) Close() error {
	var errs []error
	for _, p := range s.parts {
		errs = append(errs, p.listener.Close())
	}
	return errors.Join(errs...)
}

// Run serves until ctx ends, and then lets answers under way finish for a moment.
func (s *Server) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, p := range s.parts {
		srv := &http.Server{
			Handler:           limits(p.handler),
			ReadHeaderTimeout: headerTimeout,
			IdleTimeout:       idleTimeout,
			MaxHeaderBytes:    headerBytes,
			ErrorLog:          slog.NewLogLogger(s.cfg.Log.With("server", p.name).Handler(), slog.LevelDebug),
		}
		g.Go(func() error {
			if err := srv.Serve(p.listener); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("admin: %s: %w", p.name, err)
			}
			return nil
		})
		g.Go(func() error {
			<-ctx.Done()
			stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
			defer cancel()
			if err := srv.Shutdown(stop); err != nil {
				return srv.Close()
			}
			return nil
		})
	}
	return g.Wait()
}

// limits applies what http.Server has no field for.
func limits(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		deadline := time.Now().Add(answerTimeout)
		if err := errors.Join(rc.SetReadDeadline(deadline), rc.SetWriteDeadline(deadline)); err != nil {
			http.Error(w, "no deadlines", http.StatusInternalServerError)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, bodyBytes)
		next.ServeHTTP(w, r)
	})
}
