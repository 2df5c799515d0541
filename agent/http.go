package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// pages are what the agent serves to people and machines. Nothing can be changed through them.
type pages struct {
	status   func(context.Context) (Status, error)
	ready    func() []string // what is missing
	stuck    func() error    // why only a restart helps; nil: it does not
	registry *prometheus.Registry
	log      *slog.Logger
}

// public goes to the metrics port: no names of pods.
func (p *pages) public() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(p.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if err := p.stuck(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if missing := p.ready(); len(missing) > 0 {
			http.Error(w, "waiting for: "+strings.Join(missing, ", "), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
	})
	return mux
}

// private goes to the root-only socket.
func (p *pages) private() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /", p.public())
	mux.Handle("GET /debug/", debug())
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, r *http.Request) {
		status, err := p.status(r.Context())
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		if err := e.Encode(status); err != nil {
			p.log.Debug("status not delivered", "err", err)
		}
	})
	return mux
}

func debug() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
}

// doors are the addresses where the agent is asked about itself; nil where there is none.
type doors struct{ public, debug, private net.Listener }

// openDoors takes the addresses, all or none.
func openDoors(ctx context.Context, cfg *Config) (d doors, err error) {
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	if cfg.HTTP != "" {
		if d.public, err = listenTCP(ctx, cfg.HTTP); err != nil {
			return d, err
		}
	}
	if cfg.Debug != "" {
		if d.debug, err = listenTCP(ctx, cfg.Debug); err != nil {
			return d, err
		}
	}
	if cfg.StatusSocket != "" {
		d.private, err = listenPrivate(cfg.StatusSocket)
	}
	return d, err
}

// serve answers there until ctx ends.
func (d doors) serve(ctx context.Context, group *errgroup.Group, web *pages) {
	for l, h := range map[net.Listener]http.Handler{d.public: web.public(), d.debug: debug(), d.private: web.private()} {
		if l != nil {
			group.Go(func() error { return serve(ctx, l, h) })
		}
	}
}

// close is for doors where nobody serves, and does no harm where somebody has.
func (d doors) close() {
	for _, l := range []net.Listener{d.public, d.debug, d.private} {
		if l != nil {
			_ = l.Close()
		}
	}
}

// serve answers at a listener until ctx ends.
func serve(ctx context.Context, l net.Listener, h http.Handler) error {
	s := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, MaxHeaderBytes: 16 << 10}
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	}
	return nil
}

func listenTCP(ctx context.Context, address string) (net.Listener, error) {
	var config net.ListenConfig
	config.SetMultipathTCP(false)
	l, err := config.Listen(ctx, "tcp", address)
	if errors.Is(err, unix.EADDRINUSE) {
		return nil, fmt.Errorf("another program of this node has the agent's port (ss -ltnp shows which; the agent's is --http-address): %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return l, nil
}

func listenPrivate(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("status socket: %w", err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("status socket of an earlier agent: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("status socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("status socket: %w", err), l.Close())
	}
	return l, nil
}
