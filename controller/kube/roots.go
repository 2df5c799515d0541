package kube

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"

	"github.com/ambit-mesh/ambit/controller/objects"
)

// Names of the ConfigMap that holds the roots, and of its label, as Istio has them.
const (
	RootConfigMapName = "istio-ca-root-cert"
	rootConfigMapKey  = "root-cert.pem"
	rootLabel         = "istio.io/config"
)

// RootConfigMaps keeps the mesh's root certificates in a ConfigMap of every namespace, where pods mount what they verify
// the control plane with. It puts back what somebody else changes, at most once a second.
type RootConfigMaps struct {
	source  *Source
	log     *slog.Logger
	metrics *Metrics
	roots   Roots

	mu    sync.Mutex
	store cache.Store // of the ConfigMaps; nil unless leading
}

// Roots is what clients are to trust. ca.Signer has it.
type Roots interface {
	// Roots is the bundle, PEM.
	Roots() []byte
	// Changed is closed when what Roots answers is no longer what it was when Changed was called. Nil: that never happens.
	Changed() <-chan struct{}
}

// NewRootConfigMaps makes a keeper of the roots.
func NewRootConfigMaps(s *Source, roots Roots) *RootConfigMaps {
	return &RootConfigMaps{source: s, log: s.log, metrics: s.metrics, roots: roots}
}

// Distributed is nil once every namespace has this bundle, and says otherwise which one has not. Only a leader knows.
func (r *RootConfigMaps) Distributed(_ context.Context, roots []byte) error {
	r.mu.Lock()
	have := r.store
	r.mu.Unlock()
	if have == nil {
		return errors.New("namespaces are not looked after yet")
	}
	for _, o := range r.source.informers[objects.Namespace].shared.GetStore().List() {
		ns, ok := o.(*corev1.Namespace)
		if !ok || ns.DeletionTimestamp != nil || withoutRoots(ns.Name) { // one that is going, which may take for ever, takes nothing new
			continue
		}
		if !holdsRoots(have, ns.Name, roots) {
			return fmt.Errorf("namespace %s does not have the roots yet", ns.Name)
		}
	}
	return nil
}

func holdsRoots(have cache.Store, namespace string, roots []byte) bool {
	o, ok, err := have.GetByKey(namespace + "/" + RootConfigMapName)
	m, is := o.(*corev1.ConfigMap)
	return ok && err == nil && is && m.Data[rootConfigMapKey] == string(roots) && m.Labels[rootLabel] == "true"
}

// withoutRoots are namespaces that no pod of a mesh runs in, as in Istio. kube-system does get the roots.
func withoutRoots(namespace string) bool {
	return namespace == corev1.NamespaceNodeLease || namespace == metav1.NamespacePublic || namespace == "local-path-storage"
}

// Lead writes until ctx ends.
func (r *RootConfigMaps) Lead(ctx context.Context) error {
	queue := workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[string](retryFirst, retryMost))
	namespaces := r.source.informers[objects.Namespace] // there from the beginning
	spaces := namespaces.shared
	reg, err := spaces.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: func(o any) {
		if ns, ok := o.(*corev1.Namespace); ok {
			queue.Add(ns.Name)
		}
	}})
	if err != nil {
		return fmt.Errorf("watch namespaces: %w", err)
	}
	defer func() { _ = spaces.RemoveEventHandler(reg) }()
	factory := informers.NewSharedInformerFactoryWithOptions(r.source.cluster.reads, 0,
		informers.WithTweakListOptions(func(o *metav1.ListOptions) { o.FieldSelector = "metadata.name=" + RootConfigMapName }),
		informers.WithTransform(func(o any) (any, error) {
			if m, ok := o.(*corev1.ConfigMap); ok {
				m.ManagedFields = nil
			}
			return o, nil
		}))
	maps := factory.Core().V1().ConfigMaps()
	again := func(o any) {
		if name, err := cache.DeletionHandlingObjectToName(o); err == nil {
			queue.AddAfter(name.Namespace, repairAfter)
		}
	}
	if err := maps.Informer().SetWatchErrorHandlerWithContext(refused(r.log, "configmaps "+RootConfigMapName)); err != nil {
		return fmt.Errorf("watch root configmaps: %w", err)
	}
	if _, err := maps.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{UpdateFunc: func(_, o any) { again(o) }, DeleteFunc: again}); err != nil {
		return fmt.Errorf("watch root configmaps: %w", err)
	}
	factory.StartWithContext(quiet(ctx, r.log))
	defer factory.Shutdown()
	if !cache.WaitFor(ctx, "", maps.Informer().HasSyncedChecker(), reg.HasSyncedChecker()) {
		queue.ShutDown()
		return nil
	}
	r.setStore(maps.Informer().GetStore())
	defer r.setStore(nil)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for r.next(ctx, queue, maps.Informer().GetStore()) {
		}
	}()
	for {
		changed := r.roots.Changed()
		for _, name := range spaces.GetStore().ListKeys() {
			queue.Add(name)
		}
		select {
		case <-ctx.Done():
			queue.ShutDown()
			<-done
			return nil
		case <-changed:
		}
	}
}

func (r *RootConfigMaps) setStore(s cache.Store) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.store = s
}

func (r *RootConfigMaps) next(ctx context.Context, queue workqueue.TypedRateLimitingInterface[string], have cache.Store) bool {
	namespace, stop := queue.Get()
	if stop {
		return false
	}
	defer queue.Done(namespace)
	if ctx.Err() != nil {
		return true
	}
	if err := r.keep(ctx, namespace, have); err != nil && ctx.Err() == nil {
		r.metrics.rootWrites.WithLabelValues("error").Inc()
		r.log.Warn("root certificates cannot be written; trying again", "namespace", namespace, "err", err)
		queue.AddRateLimited(namespace)
		return true
	}
	queue.Forget(namespace)
	return true
}

// keep makes one namespace's ConfigMap hold the roots. Other keys that somebody put into it stay.
func (r *RootConfigMaps) keep(ctx context.Context, namespace string, have cache.Store) error {
	roots := r.roots.Roots()
	if withoutRoots(namespace) || len(bytes.TrimSpace(roots)) == 0 {
		return nil
	}
	if _, ok, _ := r.source.informers[objects.Namespace].shared.GetStore().GetByKey(namespace); !ok {
		return nil // it is gone
	}
	if holdsRoots(have, namespace, roots) {
		return nil
	}
	want := applycorev1.ConfigMap(RootConfigMapName, namespace).
		WithLabels(map[string]string{rootLabel: "true"}).WithData(map[string]string{rootConfigMapKey: string(roots)})
	_, err := r.source.cluster.writes.CoreV1().ConfigMaps(namespace).Apply(ctx, want, metav1.ApplyOptions{FieldManager: fieldManager, Force: true})
	if apierrors.IsNotFound(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return nil // the namespace is going
	}
	if err != nil {
		return fmt.Errorf("configmap %s/%s: %w", namespace, RootConfigMapName, err)
	}
	r.metrics.rootWrites.WithLabelValues("written").Inc()
	return nil
}
