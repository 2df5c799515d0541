package kube

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/ambit-mesh/ambit/controller/kube/kubetest"
	"github.com/ambit-mesh/ambit/controller/objects"
	"github.com/ambit-mesh/ambit/controller/source"
)

func (w *world) key(kind objects.Kind, name string) objects.Key {
	return objects.Key{Kind: kind, Namespace: w.namespace, Name: name}
}

func (w *world) createPod(name string) {
	w.t.Helper()
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": name}}, Spec: corev1.PodSpec{
		NodeName: "n1", Containers: []corev1.Container{{Name: "c", Image: "none"}},
	}}
	pods := w.cluster.reads.CoreV1().Pods(w.namespace)
	p, err := pods.Create(w.t.Context(), p, metav1.CreateOptions{})
	must(w.t, err)
	p.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "10.9.0.1", PodIPs: []corev1.PodIP{{IP: "10.9.0.1"}}, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: "True"}}}
	_, err = pods.UpdateStatus(w.t.Context(), p, metav1.UpdateOptions{})
	must(w.t, err)
}

func (w *world) patchPod(name, patch string) {
	w.t.Helper()
	_, err := w.cluster.reads.CoreV1().Pods(w.namespace).Patch(w.t.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	must(w.t, err)
}

// create makes an object of a kind from JSON.
func (w *world) create(kind objects.Kind, name, spec string) *unstructured.Unstructured {
	w.t.Helper()
	k := kindNamed(w.t, kind)
	o := &unstructured.Unstructured{Object: decode(w.t, fmt.Sprintf(`{"apiVersion":%q,"kind":%q,"metadata":{"name":%q,"namespace":%q},%s}`,
		k.gvk.GroupVersion().String(), k.gvk.Kind, name, w.namespace, spec))}
	out, err := w.cluster.objects.Resource(k.resource).Namespace(w.namespace).Create(w.t.Context(), o, metav1.CreateOptions{})
	must(w.t, err)
	return out
}

const entrySpec = `"spec":{"hosts":["db.example.com"],"ports":[{"number":5432,"name":"tcp","protocol":"TCP"}],"resolution":"NONE"}`

// TestSource: what was there comes in one batch, what changes comes alone, and both are the cache's own objects.
func TestSource(t *testing.T) {
	w := newWorld(t, kubetest.Server(t))
	w.createPod("a")
	w.create(objects.ServiceEntry, "db", entrySpec)
	w.create(objects.ConfigMap, "istio", `"data":{"mesh":"trustDomain: x"}`)
	w.create(objects.ConfigMap, "another", `"data":{}`)
	s := w.source()
	var got receiver
	run(t, func(ctx context.Context) error { return s.Run(ctx, got.deliver) })
	eventually(t, "the first state", got.synced)
	pod, ok := got.get(w.key(objects.Pod, "a")).(*objects.CompactPod)
	if !ok || pod.NodeName != "n1" || !pod.Ready || len(pod.IPs) != 1 || pod.Labels["app"] != "a" {
		t.Fatalf("pod: %+v", pod)
	}
	if se, ok := got.get(w.key(objects.ServiceEntry, "db")).(*networkingv1.ServiceEntry); !ok || se.Spec.Hosts[0] != "db.example.com" || se.ManagedFields != nil {
		t.Errorf("service entry: %v", se)
	}
	if cm, ok := got.get(w.key(objects.ConfigMap, "istio")).(*corev1.ConfigMap); !ok || cm.Data["mesh"] == "" || got.get(w.key(objects.ConfigMap, "another")) != nil {
		t.Errorf("mesh configuration: %v", cm)
	}
	ns, ok := got.get(objects.Key{Kind: objects.Namespace, Name: w.namespace}).(*corev1.Namespace)
	if !ok || ns.Labels[corev1.LabelMetadataName] != w.namespace {
		t.Errorf("namespace, metadata only: %v", ns)
	}
	if len(s.Waiting()) > 0 {
		t.Errorf("still waits for %v", s.Waiting())
	}

	before := got.count()
	w.patchPod("a", `{"metadata":{"labels":{"version":"v2"}}}`)
	eventually(t, "the changed pod", func() bool {
		p, _ := got.get(w.key(objects.Pod, "a")).(*objects.CompactPod)
		return p != nil && p.Labels["version"] == "v2"
	})
	for _, b := range got.batches[before:] {
		for _, c := range b.Changes {
			if c.Key != w.key(objects.Pod, "a") {
				t.Errorf("%s came along", c.Key)
			}
		}
	}
	if cached := s.informers[objects.Pod].get(cache.NewObjectName(w.namespace, "a")); cached != got.get(w.key(objects.Pod, "a")) {
		t.Error("what was delivered is not what the cache holds")
	}

	before = got.count()
	_, err := w.cluster.reads.CoreV1().Pods(w.namespace).Patch(t.Context(), "a", types.MergePatchType,
		[]byte(`{"status":{"conditions":[{"type":"Ready","status":"True","message":"as before"}],"qosClass":"BestEffort"}}`), metav1.PatchOptions{}, "status")
	must(t, err)
	zero := int64(0)
	must(t, w.cluster.reads.CoreV1().Pods(w.namespace).Delete(t.Context(), "a", metav1.DeleteOptions{GracePeriodSeconds: &zero}))
	eventually(t, "the pod's end", func() bool { return got.get(w.key(objects.Pod, "a")) == nil })
	if n := got.count() - before; n > 2 { // its deletion has one or two steps; the condition's text is none of ours
		t.Errorf("%d batches", n)
	}
}

// TestManyChanges: a receiver that is slow gets what gathered meanwhile at once.
func TestManyChanges(t *testing.T) {
	w := newWorld(t, kubetest.Server(t))
	w.createPod("a")
	s := w.source()
	var got receiver
	block, blocked := make(chan struct{}), make(chan struct{}, 100)
	run(t, func(ctx context.Context) error {
		return s.Run(ctx, func(b source.Batch) {
			got.deliver(b)
			if got.count() > 1 {
				blocked <- struct{}{}
				<-block
			}
		})
	})
	eventually(t, "the first state", got.synced)
	w.patchPod("a", `{"metadata":{"labels":{"n":"first"}}}`)
	<-blocked
	for i := range 20 {
		w.create(objects.ServiceEntry, fmt.Sprint("db", i), entrySpec)
		w.patchPod("a", fmt.Sprintf(`{"metadata":{"labels":{"n":"%d"}}}`, i))
	}
	eventually(t, "all names", func() bool {
		s.pending.mu.Lock()
		defer s.pending.mu.Unlock()
		n := s.pending.kinds[objects.ServiceEntry]
		return n != nil && len(n.order) == 20 && s.pending.kinds[objects.Pod] != nil
	})
	close(block)
	eventually(t, "the last state", func() bool {
		p, _ := got.get(w.key(objects.Pod, "a")).(*objects.CompactPod)
		return p.Labels["n"] == "19" && got.get(w.key(objects.ServiceEntry, "db19")) != nil
	})
	if got.count() > 4 { // the first state, the lone change, what gathered, and what an informer was still handing over
		t.Errorf("%d batches", got.count())
	}
}

// TestLateDefinition: a kind that is not installed is named, picked up when it is, and let go with its definition.
func TestLateDefinition(t *testing.T) {
	w := newWorld(t, kubetest.Server(t))
	group := w.namespace + ".ambit.test"
	late := custom("Late", group, "lates", func() objects.Object { return &networkingv1.ServiceEntry{} })
	late.namespace = w.namespace
	s := w.source(late)
	var got receiver
	run(t, func(ctx context.Context) error { return s.Run(ctx, got.deliver) })
	eventually(t, "the first state without it", got.synced)
	if n := testutil.ToFloat64(w.metrics.missing.WithLabelValues("Late")); n != 1 {
		t.Errorf("missing is %v", n)
	}
	definitions := w.cluster.objects.Resource(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"})
	crd := &unstructured.Unstructured{Object: decode(t, fmt.Sprintf(`{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition",
		"metadata":{"name":"lates.%[1]s"},"spec":{"group":%[1]q,"scope":"Namespaced","names":{"plural":"lates","singular":"late","kind":"Late","listKind":"LateList"},
		"versions":[{"name":"v1","served":true,"storage":true,"schema":{"openAPIV3Schema":{"type":"object","x-kubernetes-preserve-unknown-fields":true}}}]}}`, group))}
	_, err := definitions.Create(t.Context(), crd, metav1.CreateOptions{})
	must(t, err)
	remove := func() error {
		return definitions.Delete(context.WithoutCancel(t.Context()), crd.GetName(), metav1.DeleteOptions{})
	}
	t.Cleanup(func() { _ = remove() })
	eventually(t, "the kind", func() bool { return testutil.ToFloat64(w.metrics.missing.WithLabelValues("Late")) == 0 })
	one := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": group + "/v1", "kind": "Late", "metadata": map[string]any{"name": "x", "namespace": w.namespace}, "spec": map[string]any{"hosts": []any{"h"}},
	}}
	_, err = w.cluster.objects.Resource(late.resource).Namespace(w.namespace).Create(t.Context(), one, metav1.CreateOptions{})
	must(t, err)
	key := w.key("Late", "x")
	eventually(t, "its object", func() bool { return got.get(key) != nil })
	must(t, remove())
	eventually(t, "its end", func() bool {
		return got.get(key) == nil && testutil.ToFloat64(w.metrics.missing.WithLabelValues("Late")) == 1
	})
}

// TestForbidden: a kind that may not be read keeps the first state from being complete, and is named with the reason.
func TestForbidden(t *testing.T) {
	w := newWorld(t, kubetest.Server(t))
	nobody := rest.CopyConfig(kubetest.Server(t))
	nobody.Impersonate = rest.ImpersonationConfig{UserName: "ambit-nobody", Groups: []string{"system:authenticated"}}
	w.cluster = connect(t, nobody)
	s := w.source()
	var got receiver
	run(t, func(ctx context.Context) error { return s.Run(ctx, got.deliver) })
	eventually(t, "what is waited for", func() bool {
		all := strings.Join(s.Waiting(), "\n")
		return strings.Contains(all, "Pod: pods is forbidden") && strings.Contains(all, "customresourcedefinitions.apiextensions.k8s.io is forbidden")
	})
	if got.count() > 0 {
		t.Error("something was delivered")
	}
}

// TestAway: without the API server the last state stays; when it is back, what happened meanwhile comes, deletions too.
func TestAway(t *testing.T) {
	cfg := kubetest.Server(t)
	way, through := newRoad(t, cfg)
	w := newWorld(t, cfg)
	w.createPod("stays")
	w.createPod("goes")
	direct := w.cluster
	w.cluster = connect(t, through)
	s := w.source()
	w.cluster = direct
	var got receiver
	run(t, func(ctx context.Context) error { return s.Run(ctx, got.deliver) })
	eventually(t, "the first state", got.synced)
	before := got.count()
	way.set(false)
	eventually(t, "the outage is noticed", func() bool {
		return testutil.ToFloat64(w.metrics.sourceFailing.WithLabelValues("Pod")) == 1
	})
	if got.count() != before || got.get(w.key(objects.Pod, "stays")) == nil || got.get(w.key(objects.Pod, "goes")) == nil {
		t.Error("the last state did not stay")
	}
	zero := int64(0)
	must(t, direct.reads.CoreV1().Pods(w.namespace).Delete(t.Context(), "goes", metav1.DeleteOptions{GracePeriodSeconds: &zero}))
	w.create(objects.ServiceEntry, "new", entrySpec)
	way.set(true)
	eventually(t, "what happened meanwhile", func() bool {
		return got.get(w.key(objects.Pod, "goes")) == nil && got.get(w.key(objects.ServiceEntry, "new")) != nil
	})
	eventually(t, "no kind fails", func() bool { return testutil.ToFloat64(w.metrics.sourceFailing.WithLabelValues("Pod")) == 0 })
	if got.get(w.key(objects.Pod, "stays")) == nil {
		t.Error("an object was lost")
	}
}

// TestUnreadableThatWentFromServer: what a real server sends first, however it does, is a complete account of the kind.
func TestUnreadableThatWentFromServer(t *testing.T) {
	w := newWorld(t, kubetest.Server(t))
	s := w.source()
	gone := objects.Key{Kind: objects.AuthorizationPolicy, Namespace: w.namespace, Name: "gone"}
	s.health.unread(gone, errors.New("as it was before the connection was lost"))
	run(t, func(ctx context.Context) error { return s.Run(ctx, func(source.Batch) {}) })
	eventually(t, "the account of the kind", func() bool { return len(s.Waiting()) == 0 && len(s.health.unreadOf(gone.Kind)) == 0 })
}
