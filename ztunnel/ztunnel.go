// Package ztunnel is the node proxy: it gives the traffic of this node's enrolled pods mutual TLS, identity and L4
// authorization. It answers how the parts fit together, and in which order they begin and end; what each does is its own
// package's business. cmd/ztunnel calls Run.
//
//	agent ──listeners, sockets──▶ sockets ──▶ inpod ──accepted──▶ outbound ─▶ route ─▶ hbone ═══▶ another node's ztunnel
//	                                            │                 inbound  ─▶ policy ─▶ the application
//	controller ──xDS──▶ xds ──▶ state ──────────┴── snapshots ──▶ (all of them)
//	CA ──certificates──▶ cert                                     every end ─▶ telemetry
package ztunnel

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/ambit-mesh/ambit/controller/client"
	"github.com/ambit-mesh/ambit/ztunnel/admin"
	"github.com/ambit-mesh/ambit/ztunnel/cert"
	"github.com/ambit-mesh/ambit/ztunnel/sockets"
	"github.com/ambit-mesh/ambit/ztunnel/state"
	"github.com/ambit-mesh/ambit/ztunnel/state/dump"
	"github.com/ambit-mesh/ambit/ztunnel/telemetry"
	"github.com/ambit-mesh/ambit/ztunnel/xds"
)

// Run is a ztunnel, from beginning to end. When ctx ends it drains: it accepts nothing more, connections have DrainTimeout to
// finish, and then are cut. It returns early, with an error, only when a part cannot go on.
func Run(ctx context.Context, cfg Config) error {
	cfg = cfg.withDefaults()
	if err := cfg.check(); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	log := cfg.Log
	if err := dropped(cfg); err != nil {
		return err
	}
	cfg.nameservers()

	// What is known: the control plane's word, as snapshots.
	registry := prometheus.NewRegistry()
	store := state.NewStore(state.Config{Node: cfg.Node, Network: cfg.Network, Ranges: cfg.MeshRanges})
	registerProcess(registry, cfg.IstioVersion, store)
	node, err := client.Node(client.NodeConfig{
		IP: cfg.IP, Pod: cfg.Pod, Namespace: cfg.Namespace, Node: cfg.Node, Cluster: cfg.ClusterID, Version: cfg.IstioVersion,
	})
	if err != nil {
		return err
	}
	control := client.New(client.Config{
		Conn: cfg.XDS, Node: node, Types: xds.Types(), Handler: xds.NewFeed(store), Metrics: newXDSMetrics(registry), Log: log,
		Jitter: rand.Int64N,
	})

	// Who we are: certificates. Tunnels made with an older one are retired.
	authority, err := client.Dial(cfg.CA)
	if err != nil {
		return err
	}
	defer authority.Close()
	var plane *dataplane
	certs, err := cert.New(cert.Config{
		Signer: cert.NewGRPC(authority), Log: log, Registerer: registry, TTL: cfg.CertTTL,
		OnRotate: func(c *cert.Certificate) { plane.outbound.Rotated(c.ID) },
	})
	if err != nil {
		return err
	}

	// What happened: metrics and the access log.
	var access *telemetry.Log
	if cfg.AccessLog != nil {
		access = telemetry.NewLog(telemetry.LogConfig{Out: cfg.AccessLog, JSON: cfg.AccessLogJSON, Level: cfg.Level})
	}
	counts, err := telemetry.New(telemetry.Config{Registerer: registry, Log: access})
	if err != nil {
		return err
	}

	// What connections go through.
	var ready admin.Readiness
	lifecycle := newLifecycle(cfg, &ready)
	agent := new(agentSockets)
	names := &resolver{
		store: store, dialer: agent, domain: cfg.ClusterDomain, servers: cfg.DNSServers, log: log, metrics: newDNSMetrics(registry),
	}
	plane = newDataplane(parts{
		store: store, dialer: agent, certs: certs, telemetry: counts, log: log, metrics: registry,
		resolver: net.DefaultResolver, dns: names.serve, release: agent.release, synced: lifecycle.agentSynced, drain: lifecycle.replaced,
		limits: cfg.Limits,
	})
	registerTunnels(registry, plane.tunnels)
	agent.Client = sockets.New(sockets.Config{
		Path: cfg.Handoff, Instance: cfg.Instance, Build: cfg.Version, Handler: plane.pods.Agent(), Log: log, Metrics: registry,
		Ready: lifecycle.ready, Budget: stockBudget,
	})

	// What people see.
	views, err := admin.New(ctx, admin.Config{
		Log: log, Admin: cfg.Admin, Metrics: cfg.Metrics, Ready: cfg.Ready, Readiness: &ready, Gatherer: registry,
		Level: cfg.Level, Quit: lifecycle.quit,
		Dump: admin.Sources{
			State: func() any { return dump.Of(store.Load()) }, Certificates: certs.Status, Pods: func() map[string]admin.Pod { return podsDump(plane.pods) },
			Version: version(cfg), Config: cfg.Settings,
		},
	})
	if err != nil {
		return err
	}

	// All of it runs until the last connection has ended.
	work, done := context.WithCancel(context.WithoutCancel(ctx))
	defer done()
	run, work := errgroup.WithContext(work)
	run.Go(func() error { return views.Run(work) })
	tuneGC()
	run.Go(func() error { return trim(work, plane.pods.Rest) })
	run.Go(func() error { return ended(work, control.Run(work)) })
	run.Go(func() error { return certs.Run(work) })
	if access != nil {
		run.Go(func() error { return access.Run(work) })
	}
	run.Go(func() error { return agent.Run(work) })
	run.Go(func() error { return lifecycle.becomeReady(work, store, plane.pods, certs) })
	run.Go(func() error { return plane.pods.Run(work) })
	run.Go(func() error {
		defer done()
		return lifecycle.end(ctx, work, plane.pods, agent.Client)
	})
	return run.Wait()
}

// dropped logs what the process may do, and refuses what it must not be able to do.
func dropped(cfg Config) error {
	p, err := currentPrivileges()
	if err != nil {
		return err
	}
	cfg.Log.Info("ztunnel starts", "node", cfg.Node, "version", cfg.Version, "uid", p.uid,
		"capabilities", fmt.Sprintf("%#x", p.capabilities), "no_new_privs", p.noNewPrivs)
	if cfg.RequireUnprivileged {
		return p.refuse()
	}
	return nil
}

// ended makes the end that was asked for no error.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// agentSockets breaks the circle of dialers and handlers: the data plane dials by the client whose handler it is.
type agentSockets struct{ *sockets.Client }

func (a *agentSockets) release(p *sockets.Pod) { a.Release(p) }

func version(cfg Config) admin.Version {
	return admin.Version{Version: cfg.Version, GitRevision: cfg.Revision, GoVersion: runtime.Version(), BuildStatus: "Clean", IstioVersion: cfg.IstioVersion}
}
