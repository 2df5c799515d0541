package kube

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/ambit-mesh/ambit/controller/auth"
	"github.com/ambit-mesh/ambit/controller/ca"
	"github.com/ambit-mesh/ambit/controller/kube/kubetest"
)

func (w *world) token(pod string, audience string) string {
	w.t.Helper()
	req := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: []string{audience}}}
	if pod != "" {
		p, err := w.cluster.reads.CoreV1().Pods(w.namespace).Get(w.t.Context(), pod, metav1.GetOptions{})
		must(w.t, err)
		req.Spec.BoundObjectRef = &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: pod, UID: p.UID}
	}
	var out *authenticationv1.TokenRequest
	eventually(w.t, "a token", func() (ok bool) { // the default account is made a little after its namespace
		var err error
		out, err = w.cluster.reads.CoreV1().ServiceAccounts(w.namespace).CreateToken(w.t.Context(), "default", req, metav1.CreateOptions{})
		return err == nil
	})
	return out.Status.Token
}

// TestToken: a real token bound to a pod is that pod's, asked about once; a token for somebody else or of a pod that is gone is
// nobody's.
func TestToken(t *testing.T) {
	w := newWorld(t, kubetest.Server(t))
	w.createPod("z")
	good := w.token("z", auth.Audience)
	src := w.source()
	var got receiver
	run(t, func(ctx context.Context) error { return src.Run(ctx, got.deliver) })
	eventually(t, "the first state", got.synced)
	a := NewAuthenticator(src, auth.Audience)
	pod, err := w.cluster.reads.CoreV1().Pods(w.namespace).Get(t.Context(), "z", metav1.GetOptions{})
	must(t, err)
	want := auth.Caller{Namespace: w.namespace, ServiceAccount: "default", Pod: "z", PodUID: string(pod.UID), Node: "n1"}
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			if c, err := a.Authenticate(t.Context(), good); err != nil || c != want {
				t.Errorf("%+v %v; want %+v", c, err, want)
			}
		})
	}
	wg.Wait()
	count := func(result string) float64 { return testutil.ToFloat64(w.metrics.reviews.WithLabelValues(result)) }
	if count("accepted") != 1 {
		t.Errorf("%v reviews for one token", count("accepted"))
	}
	if c, err := a.Authenticate(t.Context(), w.token("", auth.Audience)); err != nil || c.Pod != "" || c.Node != "" || c.ServiceAccount != "default" {
		t.Errorf("a token that is not bound: %+v %v", c, err)
	}
	if _, err := a.Authenticate(t.Context(), w.token("z", "another")); err == nil || !strings.Contains(err.Error(), `"another"`) {
		t.Errorf("a token for another audience: %v", err)
	}
	parts := strings.Split(good, ".")
	forged := parts[0] + "." + parts[1] + "." + strings.Repeat("A", len(parts[2]))
	for range 2 {
		if _, err := a.Authenticate(t.Context(), forged); err == nil || strings.Contains(err.Error(), parts[1]) {
			t.Errorf("a forged token: %v", err)
		}
	}
	if count("refused") != 1 {
		t.Errorf("a refused token was asked about %v times", count("refused"))
	}
	zero := int64(0)
	must(t, w.cluster.reads.CoreV1().Pods(w.namespace).Delete(t.Context(), "z", metav1.DeleteOptions{GracePeriodSeconds: &zero}))
	eventually(t, "the token ends with its pod", func() bool { // the API server keeps answers for some seconds too
		_, err := a.Authenticate(t.Context(), good)
		return err != nil
	})
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := NewAuthenticator(src, auth.Audience).Authenticate(ended, w.token("", auth.Audience)); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller that left: %v", err)
	}
}

// TestSecret: of two that would make the root one is the first, and nobody overwrites what he has not seen.
func TestSecret(t *testing.T) {
	w := newWorld(t, kubetest.Server(t))
	a, b := NewSecret(w.cluster, w.namespace, RootSecretName), NewSecret(w.cluster, w.namespace, RootSecretName)
	if data, v, err := a.Load(t.Context()); data != nil || v != "" || err != nil {
		t.Fatalf("%v %v %v", data, v, err)
	}
	first, err := a.Save(t.Context(), map[string][]byte{ca.KeyCert: []byte("a")}, "")
	must(t, err)
	if _, err := b.Save(t.Context(), map[string][]byte{ca.KeyCert: []byte("b")}, ""); !errors.Is(err, ca.ErrConflict) {
		t.Errorf("the second to make it: %v", err)
	}
	data, v, err := b.Load(t.Context())
	if err != nil || v != first || string(data[ca.KeyCert]) != "a" {
		t.Errorf("%s %v %v", data, v, err)
	}
	second, err := b.Save(t.Context(), map[string][]byte{ca.KeyCert: []byte("b"), ca.KeyKey: []byte("k")}, v)
	must(t, err)
	if _, err := a.Save(t.Context(), map[string][]byte{ca.KeyCert: []byte("c")}, first); !errors.Is(err, ca.ErrConflict) || second == first {
		t.Errorf("an overwritten version: %v", err)
	}
	secrets := w.cluster.reads.CoreV1().Secrets(w.namespace)
	stored, err := secrets.Get(t.Context(), RootSecretName, metav1.GetOptions{})
	if err != nil || stored.Type != "istio.io/ca-root" || string(stored.Data[ca.KeyKey]) != "k" {
		t.Errorf("%v %v", stored.Type, err)
	}
	must(t, secrets.Delete(t.Context(), RootSecretName, metav1.DeleteOptions{}))
	if _, err := a.Save(t.Context(), map[string][]byte{}, second); !errors.Is(err, ca.ErrConflict) {
		t.Errorf("a Secret that was deleted: %v", err)
	}
	if _, err := NewSecret(w.cluster, "ambit-no-such-namespace", "x").Save(t.Context(), nil, ""); err == nil || errors.Is(err, ca.ErrConflict) {
		t.Errorf("a namespace that is missing: %v", err)
	}
}

// bundle is roots that a test changes.
type bundle struct {
	mu      sync.Mutex
	roots   string
	changed chan struct{}
}

func (b *bundle) Roots() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return []byte(b.roots)
}

func (b *bundle) Changed() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.changed
}

func (b *bundle) set(roots string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.roots = roots
	close(b.changed)
	b.changed = make(chan struct{})
}

// TestRootConfigMaps: the roots get into the namespace, are put back when somebody changes or removes them, and follow when they
// change; what others keep beside them stays.
func TestRootConfigMaps(t *testing.T) {
	w := newWorld(t, kubetest.Server(t))
	s := w.source()
	var got receiver
	run(t, func(ctx context.Context) error { return s.Run(ctx, got.deliver) })
	b := &bundle{roots: "one", changed: make(chan struct{})}
	r := NewRootConfigMaps(s, b)
	if r.Distributed(t.Context(), []byte("one")) == nil {
		t.Error("distributed before anybody wrote")
	}
	run(t, r.Lead)
	maps := w.cluster.reads.CoreV1().ConfigMaps(w.namespace)
	holds := func(roots string) func() bool {
		return func() bool {
			m, err := maps.Get(t.Context(), RootConfigMapName, metav1.GetOptions{})
			return err == nil && m.Data[rootConfigMapKey] == roots && m.Labels[rootLabel] == "true"
		}
	}
	eventually(t, "the roots", holds("one"))
	eventually(t, "that is known", func() bool { return r.Distributed(t.Context(), []byte("one")) == nil })
	_, err := maps.Patch(t.Context(), RootConfigMapName, types.MergePatchType, []byte(`{"data":{"root-cert.pem":"forged","theirs":"x"}}`), metav1.PatchOptions{})
	must(t, err)
	eventually(t, "the repair", holds("one"))
	if m, err := maps.Get(t.Context(), RootConfigMapName, metav1.GetOptions{}); err != nil || m.Data["theirs"] != "x" {
		t.Errorf("what others keep there: %v %v", m.Data, err)
	}
	must(t, maps.Delete(t.Context(), RootConfigMapName, metav1.DeleteOptions{}))
	eventually(t, "the roots again", holds("one"))
	b.set("two")
	eventually(t, "the new roots", holds("two"))
	eventually(t, "that is known", func() bool { return r.Distributed(t.Context(), []byte("two")) == nil })
	if err := r.Distributed(t.Context(), []byte("three")); err == nil || !strings.Contains(err.Error(), w.namespace) {
		t.Errorf("roots that nobody has: %v", err)
	}
	for name, want := range map[string]bool{corev1.NamespaceNodeLease: true, "kube-public": true, "kube-system": false, w.namespace: false} {
		if withoutRoots(name) != want {
			t.Errorf("%s: without roots is %v", name, !want)
		}
	}
}
