// Package controller is the control plane: Kubernetes objects in, workload configuration and certificates out.
//
// Run is the wiring and reads top to bottom: a source delivers objects, translate turns them into resources, xds tells the node
// proxies, ca gives them certificates, conditions go back to the objects' owners. Decisions are in those packages; this one
// owns sockets, goroutines and the order in which things start and stop. cmd/controller calls it.
package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"github.com/ambit-mesh/ambit/controller/auth"
	"github.com/ambit-mesh/ambit/controller/ca"
	"github.com/ambit-mesh/ambit/controller/source"
	"github.com/ambit-mesh/ambit/controller/source/folder"
	"github.com/ambit-mesh/ambit/controller/source/manifest"
	"github.com/ambit-mesh/ambit/controller/translate"
	"github.com/ambit-mesh/ambit/controller/xds"
)

// Config is everything Run needs. Defaults fills what has a default.
type Config struct {
	Log *slog.Logger

	Kubernetes *Kubernetes // the API server; nil without one
	Manifests  string      // folder of Kubernetes manifests, in the place of an API server; "" with a Source
	// Source and Statuses take the place of the folder if they are set.
	Source    source.Source
	Statuses  source.StatusWriter
	CADir     string // keeps the self-signed root, without an API server
	CACerts   string // folder of a plugged-in authority; "" for the self-signed one
	RootFile  string // the roots are written here for the nodes; "" for nowhere
	TokenKeys []string

	GRPC  string // xDS and certificates, TLS: ":15012"
	HTTP  string // /ready, /metrics, /version: ":15014"
	Debug string // /debug/..., a loopback address: "127.0.0.1:15016"; "" for none
	// Webhook is for an API server's admission reviews, TLS: ":15017"; "" for none.
	Webhook string

	// ServerNames are those of the certificate at GRPC and Webhook: by default the Service's in the controller's namespace, and
	// istiod's in the root namespace.
	ServerNames  []string
	NodeAccounts []string // that may ask for other identities, and for configuration: by default the ztunnels of these two
	DefaultTTL   time.Duration
	MaxTTL       time.Duration
	RootOverlap  time.Duration // how long two roots are trusted before and after the new one signs; certificates live no longer
	RootSettle   time.Duration // added to it: how long replicas and nodes may be behind

	Translate translate.Settings
	Version   string

	// Listening, if set, is told the addresses once they accept.
	Listening func(grpc, http, debug net.Addr)
}

// Defaults fills empty fields.
func (c Config) Defaults() Config {
	names := c.Translate.Defaults()
	root := names.RootNamespace
	// What was not given is left to MeshConfig.
	names.RootNamespace, names.TrustDomain = c.Translate.RootNamespace, c.Translate.TrustDomain
	c.Translate = names
	c.Kubernetes = c.Kubernetes.defaults()
	system := defaultNamespace
	if c.Kubernetes != nil {
		system = c.Kubernetes.Namespace
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.GRPC == "" {
		c.GRPC = ":15012"
	}
	if c.HTTP == "" {
		c.HTTP = ":15014"
	}
	if c.DefaultTTL == 0 {
		c.DefaultTTL = 24 * time.Hour
	}
	if c.MaxTTL == 0 {
		c.MaxTTL = 90 * 24 * time.Hour
	}
	if c.RootOverlap == 0 {
		c.RootOverlap = c.MaxTTL
	}
	if c.RootSettle == 0 {
		c.RootSettle = time.Hour
	}
	if len(c.ServerNames) == 0 {
		domain := c.Translate.ClusterDomain
		c.ServerNames = []string{
			"ambit-controller." + system + ".svc", "ambit-controller." + system + ".svc." + domain, "ambit-controller." + system,
			"istiod." + root + ".svc", "istiod." + root + ".svc." + domain, "istiod." + root,
			"istiod-remote." + root + ".svc", "istio-pilot." + root + ".svc",
		}
	}
	if len(c.NodeAccounts) == 0 {
		c.NodeAccounts = []string{system + "/ambit-ztunnel", root + "/ztunnel"}
	}
	return c
}

func (c Config) validate() error {
	folder := c.Kubernetes == nil
	switch {
	case folder && c.Manifests == "" && c.Source == nil:
		return errors.New("neither an API server nor a manifest folder given")
	case !folder && (c.Manifests != "" || c.Source != nil):
		return errors.New("an API server and a manifest folder given: want one of them")
	case (c.Source == nil) != (c.Statuses == nil):
		return errors.New("a source without a place for its conditions, or the reverse")
	case folder && c.CADir == "" && c.CACerts == "":
		return errors.New("no folder for the certificate authority given")
	case folder && len(c.TokenKeys) == 0:
		return errors.New("no key to verify tokens with given")
	case c.DefaultTTL > c.MaxTTL:
		return fmt.Errorf("default certificate lifetime %s is above the limit %s", c.DefaultTTL, c.MaxTTL)
	case min(c.DefaultTTL, c.MaxTTL, c.RootOverlap, c.RootSettle) < 0:
		return errors.New("negative lifetime, overlap or settling time given")
	}
	for _, a := range c.NodeAccounts {
		if namespace, name, ok := strings.Cut(a, "/"); !ok || namespace == "" || name == "" {
			return fmt.Errorf("node account %q: want namespace/name", a)
		}
	}
	return nil
}

// Run serves until ctx ends, then lets clients go and returns. Nothing it started is left.
func Run(ctx context.Context, cfg Config) error {
	tuneGC()
	cfg = cfg.Defaults()
	if err := cfg.validate(); err != nil {
		return err
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m := newMetrics(reg, cfg.Log, cfg.Version)

	problems := &problemBoard{log: cfg.Log, metric: m.problems}
	base, err := openPlatform(cfg, problems, reg)
	if err != nil {
		return err
	}
	var mesh, from string
	if cfg.Translate.TrustDomain == "" {
		if mesh, err = base.mesh(ctx); err != nil {
			return err
		}
	}
	if cfg.Translate.TrustDomain, from, err = trustDomain(cfg.Translate.TrustDomain, mesh); err != nil {
		return err
	}
	authority, err := openAuthority(ctx, cfg, base.store, reg)
	if err != nil {
		return err
	}
	if cfg.RootFile != "" {
		if err := ca.WriteFile(cfg.RootFile, authority.Roots(), 0o644); err != nil {
			return fmt.Errorf("root certificate: %w", err)
		}
	}
	ca.RegisterExpiry(reg, authority.Expiry, time.Now)
	calls := auth.Calls{
		Tokens: base.tokens, Certificates: auth.NewCertificates(cfg.Translate.TrustDomain, authority.Roots, time.Now),
	}

	residents := newResidents(cfg.NodeAccounts)
	table := xds.NewTable()
	ready := newReadiness(missingState, missingServing)
	xm := xds.NewMetrics(reg)
	line := newPipeline(cfg, table, residents, m, func() { ready.set(missingState, true) }, xm.Failed)
	ready.why(missingState, func() []string { return slices.Concat(base.waiting(), line.held()) })

	lis, err := listen(cfg)
	if err != nil {
		return err
	}
	clients := newConns(lis.grpc, grpcLimits, cfg.Log, m)
	lis.http = newConns(lis.http, httpLimits, cfg.Log, m)
	calls.Known = func(ctx context.Context, c auth.Caller) {
		if slices.Contains(cfg.NodeAccounts, c.Account()) {
			clients.nodeProxy(ctx)
		}
	}
	xs := xds.New(xds.Config{
		Table: table, Auth: calls, Log: cfg.Log, Metrics: xm, HangUp: clients.hangUp,
		Admit: func(c auth.Caller) error {
			if !slices.Contains(cfg.NodeAccounts, c.Account()) {
				return fmt.Errorf("%s is not one of the accounts that may read the configuration", c.Account())
			}
			return nil
		},
	})
	cs := ca.New(ca.Config{
		Auth: calls, Signer: authority, Residents: residents, TrustDomain: cfg.Translate.TrustDomain, NodeAccounts: cfg.NodeAccounts,
		DefaultTTL: cfg.DefaultTTL, MaxTTL: cfg.MaxTTL, Log: cfg.Log, Metrics: ca.NewMetrics(reg), Now: time.Now,
	})

	cert := newServingCert(authority, cfg.ServerNames, cfg.Log, time.Now)
	grpcServer := newGRPC(cert, m, xs, cs)
	pub := newHTTP(publicHandler(ready, reg, cfg.Version))
	pub.ReadTimeout, pub.WriteTimeout = scrapeWithin, scrapeWithin
	dbg := newHTTP(debugHandler(ready, line, xs, problems, cfg, reg))

	// What clients need while they are still connected outlives ctx: everything else ends when the last client has left.
	work, finish := context.WithCancel(context.WithoutCancel(ctx))
	defer finish()
	group, gctx := errgroup.WithContext(work)
	serving, leave := context.WithCancel(gctx)
	defer leave()
	defer context.AfterFunc(ctx, func() {
		ready.set(missingLeaving, false)
		cfg.Log.Info("controller is shutting down; clients are asked to leave", "clients", len(xs.Clients()))
		leave()
	})()
	keepRoots, inNamespaces := base.roots(authority)
	// Every replica: what is served.
	group.Go(func() error { return runSource(gctx, base.source, line) })
	group.Go(func() error { return line.writeStatuses(gctx, base.statuses) }) // an API server's only takes note
	group.Go(func() error { return authority.Run(gctx) })
	// One replica: what is written.
	writers := append(base.writers, func(ctx context.Context) error { return lead(ctx, authority, both(inNamespaces, inRootFile(cfg))) })
	if keepRoots != nil {
		writers = append(writers, keepRoots)
	}
	group.Go(func() error { return base.elect(gctx, writers...) })
	if cfg.RootFile != "" {
		group.Go(func() error { return keepRootFile(gctx, cfg, authority) })
	}
	group.Go(func() error { defer finish(); return serveGRPC(serving, grpcServer, clients, xs) })
	group.Go(func() error { return serveHTTP(gctx, pub, lis.http) })
	if lis.debug != nil {
		group.Go(func() error { return serveHTTP(gctx, dbg, lis.debug) })
	}
	if cfg.Webhook != "" {
		group.Go(func() error {
			hook, hookLis, err := openAdmission(cfg, cert, reg, m)
			if err != nil {
				return err
			}
			return serveHTTP(gctx, hook, hookLis)
		})
	}
	cfg.Log.Info("controller is serving", "grpc", lis.grpc.Addr().String(), "http", lis.http.Addr().String(), "trust_domain", cfg.Translate.TrustDomain, "trust_domain_from", from)
	ready.set(missingServing, true)
	if cfg.Listening != nil {
		var debugAddr net.Addr
		if lis.debug != nil {
			debugAddr = lis.debug.Addr()
		}
		cfg.Listening(lis.grpc.Addr(), lis.http.Addr(), debugAddr)
	}
	err = group.Wait()
	cfg.Log.Info("controller has stopped", "err", err)
	return err
}

func runSource(ctx context.Context, src source.Source, line *pipeline) error {
	if err := src.Run(ctx, func(b source.Batch) { line.deliver(ctx, b) }); err != nil {
		return fmt.Errorf("source: %w", err)
	}
	return nil
}

// problemBoard shows what is wrong with the manifests.
type problemBoard struct {
	status folder.Status // of the folder's, which alone has problems
	log    *slog.Logger
	metric prometheus.Gauge
	now    guarded[[]manifest.Problem]
}

func (b *problemBoard) set(problems []manifest.Problem) {
	b.now.set(problems)
	b.metric.Set(float64(len(problems)))
	if err := b.status.WriteProblems(problems); err != nil {
		b.log.Warn("manifest problems cannot be written", "err", err)
	}
}
