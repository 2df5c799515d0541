package controller

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/ambit-mesh/ambit/controller/auth"
	"github.com/ambit-mesh/ambit/controller/ca"
	"github.com/ambit-mesh/ambit/controller/kube"
	"github.com/ambit-mesh/ambit/controller/source"
	"github.com/ambit-mesh/ambit/controller/source/folder"
)

// defaultNamespace is the controller's own.
const defaultNamespace = "ambit-system"

// Kubernetes says how the controller runs on an API server.
type Kubernetes struct {
	Kubeconfig string // "" for the pod's own account
	// Namespace is the controller's own, with the lease of its replicas; "ambit-system" by default.
	Namespace string
	// RootSecret keeps the self-signed root, in the root namespace: "istio-ca-secret" by default, as in Istio.
	RootSecret string
	// Audience is what callers' tokens must be meant for: auth.Audience by default.
	Audience string
	// Alone says that there is no other replica: this one writes without a lease.
	Alone bool
	// LeaseDuration and the two after it are the times of the lease; kube.Election says what they mean.
	LeaseDuration, RenewDeadline, RetryPeriod time.Duration
}

func (k *Kubernetes) defaults() *Kubernetes {
	if k == nil {
		return nil
	}
	out := *k
	for _, d := range []struct {
		field *string
		value string
	}{{&out.Namespace, defaultNamespace}, {&out.RootSecret, kube.RootSecretName}, {&out.Audience, auth.Audience}} {
		if *d.field == "" {
			*d.field = d.value
		}
	}
	return &out
}

// writer is work that one replica does.
type writer func(context.Context) error

// platform is what the controller stands on: an API server, or a folder and files.
type platform struct {
	source   source.Source
	statuses source.StatusWriter
	tokens   auth.Chain
	store    ca.Store // of the self-signed root; nil if there is a plugged-in one
	// mesh is MeshConfig's text at the start, "" if there is none.
	mesh func(context.Context) (string, error)
	// waiting names what the first state still waits for.
	waiting func() []string
	// elect runs writers while this replica is the one to write.
	elect func(ctx context.Context, writers ...writer) error
	// writers are the platform's own.
	writers []writer
	// roots keeps the trusted roots where those who dial this controller find them.
	roots func(ca.Signer) (keep writer, distributed func(context.Context, []byte) error)
}

// openPlatform connects to what the configuration names. It waits for nothing.
func openPlatform(cfg Config, problems *problemBoard, reg prometheus.Registerer) (platform, error) {
	if cfg.Kubernetes != nil {
		return openKubernetes(cfg, reg)
	}
	verifier, err := openVerifier(cfg.TokenKeys)
	if err != nil {
		return platform{}, err
	}
	p := platform{
		source: cfg.Source, statuses: cfg.Statuses, tokens: auth.Chain{{Name: "lab token", Authenticator: verifier}}, store: ca.NewFolder(cfg.CADir),
		waiting: func() []string { return nil }, elect: everybody,
		// A folder may be written after the start, so it has no say.
		mesh:  func(context.Context) (string, error) { return "", nil },
		roots: func(s ca.Signer) (writer, func(context.Context, []byte) error) { return nil, nil },
	}
	if cfg.Source != nil {
		return p, nil
	}
	if info, err := os.Stat(cfg.Manifests); err != nil || !info.IsDir() {
		return platform{}, fmt.Errorf("manifest folder %s: not a folder that can be read", cfg.Manifests)
	}
	status := folder.NewStatus(cfg.Manifests)
	if err := status.Clear(); err != nil {
		return platform{}, err
	}
	problems.status = status
	p.source, p.statuses = folder.New(folder.Config{Dir: cfg.Manifests, Log: cfg.Log, Problems: problems.set}), status
	return p, nil
}

func openKubernetes(cfg Config, reg prometheus.Registerer) (platform, error) {
	k := cfg.Kubernetes
	cluster, err := kube.Connect(k.Kubeconfig, cfg.Version)
	if err != nil {
		return platform{}, err
	}
	m := kube.NewMetrics(reg)
	root := cfg.Translate.Defaults().RootNamespace // what MeshConfig says of it is known later, and only moves policies
	src, err := kube.NewSource(cluster, root, cfg.Log, m)
	if err != nil {
		return platform{}, err
	}
	statuses := kube.NewStatus(src)
	p := platform{
		source: src, statuses: statuses, waiting: src.Waiting, store: kube.NewSecret(cluster, root, k.RootSecret),
		elect: everybody, writers: []writer{statuses.Lead},
		mesh: func(ctx context.Context) (string, error) { return cluster.MeshConfig(ctx, root) },
		roots: func(s ca.Signer) (writer, func(context.Context, []byte) error) {
			maps := kube.NewRootConfigMaps(src, s)
			hooks := kube.NewWebhookBundles(cluster, kube.WebhookOwner, s, cfg.Log, m)
			return func(ctx context.Context) error { return everybody(ctx, maps.Lead, hooks.Lead) }, maps.Distributed
		},
	}
	if len(cfg.TokenKeys) > 0 {
		verifier, err := openVerifier(cfg.TokenKeys)
		if err != nil {
			return platform{}, err
		}
		p.tokens = append(p.tokens, auth.Named{Name: "lab token", Authenticator: verifier})
	}
	p.tokens = append(p.tokens, auth.Named{Name: "service account token", Authenticator: kube.NewAuthenticator(src, k.Audience)})
	if k.Alone {
		return p, nil
	}
	identity, err := replica()
	if err != nil {
		return platform{}, err
	}
	election := kube.Election{
		Namespace: k.Namespace, Name: "ambit-controller", Identity: identity,
		Duration: k.LeaseDuration, Renew: k.RenewDeadline, Retry: k.RetryPeriod,
	}
	p.elect = func(ctx context.Context, writers ...writer) error {
		var all []func(context.Context) error
		for _, w := range writers {
			all = append(all, w)
		}
		return cluster.Elect(ctx, election, cfg.Log, m, all...)
	}
	return p, nil
}

// everybody is the election among one.
func everybody(ctx context.Context, writers ...writer) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, w := range writers {
		group.Go(func() error { return w(ctx) })
	}
	return group.Wait()
}

// replica names this process among others: in a pod, the host name is the pod's.
func replica() (string, error) {
	host, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("name of this replica: %w", err)
	}
	id := make([]byte, 4)
	if _, err := rand.Read(id); err != nil {
		return "", fmt.Errorf("name of this replica: %w", err)
	}
	return host + "_" + hex.EncodeToString(id), nil
}

// both asks each that is not nil.
func both(list ...func(context.Context, []byte) error) func(context.Context, []byte) error {
	return func(ctx context.Context, roots []byte) error {
		var errs []error
		for _, f := range list {
			if f != nil {
				errs = append(errs, f(ctx, roots))
			}
		}
		return errors.Join(errs...)
	}
}
