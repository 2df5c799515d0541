package kube

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
)

// WebhookLabel marks the ValidatingWebhookConfigurations whose authority a controller keeps; its value names the controller:
// WebhookOwner, unless several meshes share a cluster.
const (
	WebhookLabel = "ambit.io/ca-bundle"
	WebhookOwner = "ambit-controller"
)

// WebhookBundles keeps the mesh's roots in ValidatingWebhookConfigurations, so that the API server trusts the webhook through
// every rotation. It changes caBundle and nothing else: what is asked for, and what happens without an answer, is said by
// whoever installed the configuration.
type WebhookBundles struct {
	cluster *Cluster
	owner   string
	roots   interface {
		Roots() []byte
		Changed() <-chan struct{} // closed at the next change
	}
	log     *slog.Logger
	metrics *Metrics
}

// NewWebhookBundles makes a keeper of the configurations with that owner. ca.Signer has roots.
func NewWebhookBundles(c *Cluster, owner string, roots interface {
	Roots() []byte
	Changed() <-chan struct{}
}, log *slog.Logger, m *Metrics,
) *WebhookBundles {
	return &WebhookBundles{c, owner, roots, log, m}
}

// Lead writes until ctx ends. While configurations cannot be listed it waits, and the log says why.
func (w *WebhookBundles) Lead(ctx context.Context) error {
	queue := workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[string](retryFirst, retryMost))
	factory := informers.NewSharedInformerFactoryWithOptions(w.cluster.reads, 0,
		informers.WithTweakListOptions(func(o *metav1.ListOptions) { o.LabelSelector = WebhookLabel + "=" + w.owner }))
	informer := factory.Admissionregistration().V1().ValidatingWebhookConfigurations().Informer()
	add := func(o any) {
		if c, ok := o.(*admissionv1.ValidatingWebhookConfiguration); ok {
			queue.Add(c.Name)
		}
	}
	again := func(_, o any) {
		if c, ok := o.(*admissionv1.ValidatingWebhookConfiguration); ok {
			queue.AddAfter(c.Name, repairAfter)
		}
	}
	if err := informer.SetWatchErrorHandlerWithContext(refused(w.log, "validatingwebhookconfigurations")); err != nil {
		return fmt.Errorf("watch webhook configurations: %w", err)
	}
	if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: add, UpdateFunc: again}); err != nil {
		return fmt.Errorf("watch webhook configurations: %w", err)
	}
	factory.StartWithContext(quiet(ctx, w.log))
	defer factory.Shutdown()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for w.next(ctx, queue, informer.GetStore()) {
		}
	}()
	for {
		changed := w.roots.Changed() // before the roots are read again
		for _, name := range informer.GetStore().ListKeys() {
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

func (w *WebhookBundles) next(ctx context.Context, queue workqueue.TypedRateLimitingInterface[string], have cache.Store) bool {
	name, stop := queue.Get()
	if stop {
		return false
	}
	defer queue.Done(name)
	if err := w.keep(ctx, name, have); err != nil && ctx.Err() == nil {
		w.metrics.webhookWrites.WithLabelValues("error").Inc()
		w.log.Warn("authority of a webhook cannot be written; trying again", "webhook", name, "err", err)
		queue.AddRateLimited(name)
		return true
	}
	queue.Forget(name)
	return true
}

func (w *WebhookBundles) keep(ctx context.Context, name string, have cache.Store) error {
	o, ok, err := have.GetByKey(name)
	now, is := o.(*admissionv1.ValidatingWebhookConfiguration)
	roots := w.roots.Roots()
	if !ok || err != nil || !is || len(bytes.TrimSpace(roots)) == 0 {
		return nil
	}
	want, changed := now.DeepCopy(), false
	for i := range want.Webhooks {
		if c := &want.Webhooks[i].ClientConfig; !bytes.Equal(c.CABundle, roots) {
			c.CABundle, changed = roots, true
		}
	}
	if !changed {
		return nil
	}
	_, err = w.cluster.writes.AdmissionregistrationV1().ValidatingWebhookConfigurations().Update(ctx, want, metav1.UpdateOptions{FieldManager: fieldManager})
	if apierrors.IsNotFound(err) {
		return nil // it is gone
	}
	if err != nil {
		return fmt.Errorf("webhook configuration %s: %w", name, err) // a conflict, too: the newer one comes
	}
	w.metrics.webhookWrites.WithLabelValues("written").Inc()
	return nil
}
