package source

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/ambit-mesh/ambit/agent/pods"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/record"
)

// Kubernetes is the API server's source: this node's pods (by field selector) and all namespaces. It needs list and watch on
// both, and patch on pods/status; Untaint and Warn need more.
type Kubernetes struct {
	published
	client kubernetes.Interface
	node   string
	log    *slog.Logger
	events atomic.Pointer[record.EventRecorder] // while Run runs

	pods, namespaces watch
}

// NewKubernetes makes a source of the pods that are bound to node.
func NewKubernetes(client kubernetes.Interface, node string, log *slog.Logger) *Kubernetes {
	return &Kubernetes{published: newPublished(), client: client, node: node, log: log}
}

// Connect makes a client from a kubeconfig file, or from the pod's own account where there is none.
func Connect(kubeconfig string) (kubernetes.Interface, error) {
	cfg, err := rest.InClusterConfig()
	if kubeconfig != "" {
		cfg, err = clientcmd.BuildConfigFromFlags("", kubeconfig)
	}
	if err != nil {
		return nil, fmt.Errorf("kubernetes configuration: %w", err)
	}
	cfg.QPS, cfg.Burst = 80, 160 // as Istio's agent: a node's pods may all change at once
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("kubernetes client: %w", err)
	}
	return client, nil
}

// Run watches until ctx ends.
func (k *Kubernetes) Run(ctx context.Context) error {
	ofNode := informers.NewSharedInformerFactoryWithOptions(k.client, 0,
		informers.WithTransform(dropManagedFields),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector("spec.nodeName", k.node).String()
		}))
	all := informers.NewSharedInformerFactoryWithOptions(k.client, 0, informers.WithTransform(dropManagedFields))
	podInformer, namespaceInformer := ofNode.Core().V1().Pods(), all.Core().V1().Namespaces()
	dirty := make(chan struct{}, 1)
	mark := func() {
		select {
		case dirty <- struct{}{}:
		default:
		}
	}
	handler := cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { mark() }, UpdateFunc: func(any, any) { mark() }, DeleteFunc: func(any) { mark() },
	}
	for informer, w := range map[cache.SharedIndexInformer]*watch{podInformer.Informer(): &k.pods, namespaceInformer.Informer(): &k.namespaces} {
		if _, err := informer.AddEventHandler(handler); err != nil {
			return fmt.Errorf("watch pods and namespaces: %w", err)
		}
		if err := informer.SetWatchErrorHandlerWithContext(func(_ context.Context, _ *cache.Reflector, err error) {
			w.failed(err)
			k.log.Warn("kubernetes watch ended; starting again", "err", err)
		}); err != nil {
			return fmt.Errorf("watch pods and namespaces: %w", err)
		}
	}
	k.pods.follow(podInformer.Informer().HasSynced)
	k.namespaces.follow(namespaceInformer.Informer().HasSynced)
	for _, f := range []informers.SharedInformerFactory{ofNode, all} {
		f.Start(ctx.Done())
		defer f.Shutdown()
	}
	if !cache.WaitForCacheSync(ctx.Done(), podInformer.Informer().HasSynced, namespaceInformer.Informer().HasSynced) {
		return nil // ctx ended
	}
	recorder, stopEvents := startEvents(ctx, k.client, k.node)
	k.events.Store(&recorder)
	defer func() {
		k.events.Store(nil)
		stopEvents()
	}()
	mark()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-dirty:
			set, err := k.read(podInformer.Lister(), namespaceInformer.Lister())
			if err != nil {
				return err
			}
			k.publish(set)
		}
	}
}

func (k *Kubernetes) read(podLister corelisters.PodLister, namespaceLister corelisters.NamespaceLister) (*pods.Set, error) {
	podObjects, err := podLister.List(labels.Everything())
	if err != nil {
		return nil, fmt.Errorf("list pods: %w", err)
	}
	namespaceObjects, err := namespaceLister.List(labels.Everything())
	if err != nil {
		return nil, fmt.Errorf("list namespaces: %w", err)
	}
	var list []pods.Pod
	for _, p := range podObjects {
		if p.Spec.NodeName == k.node {
			list = append(list, fromPod(p))
		}
	}
	var namespaces []pods.Namespace
	for _, n := range namespaceObjects {
		namespaces = append(namespaces, fromNamespace(n))
	}
	return pods.NewSet(list, namespaces), nil
}

// Annotate writes Redirection on the pod, through its status as Istio's agent does; "" removes it. A pod that is gone, or
// whose name another carries now, needs none.
func (k *Kubernetes) Annotate(ctx context.Context, key pods.Key, uid pods.UID, value string) error {
	if set := k.Set(); set != nil {
		if p, ok := set.ByUID(uid); ok && p.Annotations[Redirection] == value {
			return nil
		}
	}
	annotation := map[string]any{Redirection: value}
	if value == "" {
		annotation[Redirection] = nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": uid, "annotations": annotation}})
	if err != nil {
		return fmt.Errorf("annotation of pod %s: %w", key, err)
	}
	_, err = k.client.CoreV1().Pods(key.Namespace).Patch(ctx, key.Name, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("annotation of pod %s: %w", key, err)
	}
	return nil
}

// dropManagedFields keeps the cache small.
func dropManagedFields(object any) (any, error) {
	switch o := object.(type) {
	case *corev1.Pod:
		o.ManagedFields = nil
	case *corev1.Namespace:
		o.ManagedFields = nil
	case nil:
		return nil, errors.New("no object")
	}
	return object, nil
}
