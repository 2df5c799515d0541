// Package kube is the controller's side of a Kubernetes API server: objects in, conditions, events, certificates' roots and
// leases out. It is the only package of the controller that knows client-go.
//
// It answers "what does the API server say now?" and "how does it come to hold what we want?", and decides nothing about the
// mesh. The root package builds one Cluster and runs its parts:
//
//	Source         source.Source: informers of every declared kind, trimmed on arrival, in batches
//	Status         source.StatusWriter: our conditions on objects, and events for refusals
//	Authenticator  auth.Authenticator by TokenReview
//	Secret         keeps the self-signed root; the interface is package ca's
//	RootConfigMaps the roots, in every namespace, for those who dial the control plane
//	WebhookBundles the roots, in the webhook configurations that are labelled for it
//	Elect          one leader among the replicas, around whatever writes
//
// Everything exported is safe for concurrent use. Methods named Run or Lead block until their context ends, and leave no
// goroutine behind. The accounts and rights needed are in deploy/chart/ambit/files/controller-rbac.yaml, each with its reason; a test runs the
// controller with exactly those.
package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/go-logr/logr"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
)

// Requests a second that writers may make, and how many at once. Reads are a few watches and token reviews have a bound of
// their own, so neither has a rate: the server's own fairness decides.
const (
	writeRate  = 30
	writeBurst = 60
)

// protobufs is how objects of Kubernetes' own kinds travel: a third of the bytes and of the work of JSON.
const protobufs = "application/vnd.kubernetes.protobuf"

// Cluster is a connection to an API server. It holds no state of the cluster.
type Cluster struct {
	base    *rest.Config // no rate, JSON
	http    *http.Client
	reads   kubernetes.Interface
	writes  kubernetes.Interface
	objects dynamic.Interface // for objects of any kind, at the rate of writers
	leases  kubernetes.Interface
}

// Connect reads a kubeconfig file, or takes the pod's own account if the name is empty. It does not wait for the server.
func Connect(kubeconfig, version string) (*Cluster, error) {
	cfg, err := configuration(kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("kubernetes configuration: %w", err)
	}
	return New(cfg, version)
}

func configuration(kubeconfig string) (*rest.Config, error) {
	if kubeconfig != "" {
		return clientcmd.BuildConfigFromFlags("", kubeconfig)
	}
	cfg, err := rest.InClusterConfig()
	if errors.Is(err, rest.ErrNotInCluster) {
		return nil, errors.New("not in a pod, and no kubeconfig given")
	}
	return cfg, err
}

// New makes a Cluster of a client configuration, which it copies.
func New(cfg *rest.Config, version string) (*Cluster, error) {
	base := rest.CopyConfig(cfg)
	base.QPS, base.Burst, base.RateLimiter = -1, 0, nil
	base.UserAgent = "ambit-controller/" + version
	client, err := rest.HTTPClientFor(base)
	if err != nil {
		return nil, fmt.Errorf("kubernetes client: %w", err)
	}
	c := &Cluster{base: base, http: client}
	core := rest.CopyConfig(base)
	core.ContentType, core.AcceptContentTypes = protobufs, protobufs+",application/json"
	limited := rest.CopyConfig(core)
	limited.QPS, limited.Burst = writeRate, writeBurst
	dyn := rest.CopyConfig(base)
	dyn.QPS, dyn.Burst = writeRate, writeBurst
	var errs [4]error
	c.reads, errs[0] = kubernetes.NewForConfigAndClient(core, client)
	c.writes, errs[1] = kubernetes.NewForConfigAndClient(limited, client)
	c.leases, errs[2] = kubernetes.NewForConfigAndClient(core, client) // never behind other writes
	c.objects, errs[3] = dynamic.NewForConfigAndClient(dyn, client)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, fmt.Errorf("kubernetes client: %w", err)
	}
	return c, nil
}

// quiet has client-go log to our logger for whoever debugs it: each of its watches reports an outage, where one line of
// ours is enough.
func quiet(ctx context.Context, log *slog.Logger) context.Context {
	return klog.NewContext(ctx, logr.FromSlogHandler(demoted{log.Handler()}))
}

// demoted handles every record as one for debugging.
type demoted struct{ slog.Handler }

// Enabled implements slog.Handler.
func (d demoted) Enabled(ctx context.Context, _ slog.Level) bool {
	return d.Handler.Enabled(ctx, slog.LevelDebug)
}

// Handle implements slog.Handler.
func (d demoted) Handle(ctx context.Context, r slog.Record) error {
	r.Level = slog.LevelDebug
	return d.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (d demoted) WithAttrs(a []slog.Attr) slog.Handler { return demoted{d.Handler.WithAttrs(a)} }

// WithGroup implements slog.Handler.
func (d demoted) WithGroup(name string) slog.Handler { return demoted{d.Handler.WithGroup(name)} }
