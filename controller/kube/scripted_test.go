package kube

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/ambit-mesh/ambit/controller/auth"
	"github.com/ambit-mesh/ambit/controller/objects"
)

// scripted is an API server that says what no sound one can be made to say.
func scripted(t *testing.T, h http.HandlerFunc) *Cluster {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return connect(t, &rest.Config{Host: srv.URL})
}

func say(w http.ResponseWriter, v any) {
	code := http.StatusOK
	if err, ok := v.(apierrors.APIStatus); ok {
		st := err.Status()
		st.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
		code, v = int(st.Code), st
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v)
}

// TestDiscoveryBehind: an API server that has just started knows a definition before it serves the resource. What was watched does
// not go for that: without its policies the mesh would be open.
func TestDiscoveryBehind(t *testing.T) {
	k := kindNamed(t, objects.AuthorizationPolicy)
	var serving atomic.Bool
	c := scripted(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/apis/security.istio.io/v1" || !serving.Load() {
			say(w, apierrors.NewNotFound(schema.GroupResource{}, ""))
			return
		}
		say(w, metav1.APIResourceList{
			TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: "security.istio.io/v1",
			APIResources: []metav1.APIResource{{Name: k.resource.Resource, Kind: k.gvk.Kind, Namespaced: true}},
		})
	})
	log := slog.New(slog.DiscardHandler)
	p := newPresence(c, log, newHealth(log, NewMetrics(prometheus.NewRegistry())), []kind{k}, func() {})
	defined := cache.NewStore(cache.MetaNamespaceKeyFunc)
	definition := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: k.resource.GroupResource().String()}}
	for _, step := range []struct {
		name                            string
		defined, served, want, complete bool
	}{
		{"not installed", false, false, false, true},
		{"defined, not served yet", true, false, false, false},
		{"installed", true, true, true, true},
		{"a server that has just started", true, false, true, false},
		{"installed again", true, true, true, true},
		{"no definition, still served", false, true, true, false},
		{"gone", false, false, false, true},
	} {
		serving.Store(step.served)
		must(t, defined.Delete(definition))
		if step.defined {
			must(t, defined.Add(definition))
		}
		complete, err := p.ask(t.Context(), defined)
		must(t, err)
		if got := p.has(k.resource); got != step.want || complete != step.complete {
			t.Errorf("%s: watched %v, complete %v", step.name, got, complete)
		}
	}
}

// reviewer is an Authenticator that asks a scripted API server.
func reviewer(t *testing.T, h http.HandlerFunc) (a *Authenticator, count func(string) float64) {
	a = newTestAuthenticator()
	a.cluster = scripted(t, h)
	a.nodeOf = func(_, _, _ string) string { return "n1" }
	return a, func(result string) float64 { return testutil.ToFloat64(a.metrics.reviews.WithLabelValues(result)) }
}

func accepted() authenticationv1.TokenReview {
	return authenticationv1.TokenReview{
		TypeMeta: metav1.TypeMeta{Kind: "TokenReview", APIVersion: "authentication.k8s.io/v1"},
		Status: authenticationv1.TokenReviewStatus{
			Authenticated: true, Audiences: []string{"istio-ca"},
			User: authenticationv1.UserInfo{Username: "system:serviceaccount:shop:web", Extra: map[string]authenticationv1.ExtraValue{extraPod: {"web-1"}, extraUID: {"u"}}},
		},
	}
}

func tokenNumber(n string) string { return jwt(`{"aud":"istio-ca","exp":9e9,"n":"` + n + `"}`) }

// TestAnswerEndsWithPod: an answer is kept while the token's pod is there, and no longer.
func TestAnswerEndsWithPod(t *testing.T) {
	var gone atomic.Bool
	a, count := reviewer(t, func(w http.ResponseWriter, _ *http.Request) {
		res := accepted()
		res.Status.Authenticated = !gone.Load()
		say(w, res)
	})
	a.nodeOf = func(namespace, pod, uid string) string {
		if gone.Load() || namespace != "shop" || pod != "web-1" || uid != "u" {
			return ""
		}
		return "n1"
	}
	for range 3 {
		if c, err := a.Authenticate(t.Context(), tokenNumber("1")); err != nil || c.Pod != "web-1" || c.Node != "n1" {
			t.Fatalf("%+v %v", c, err)
		}
	}
	if count("accepted") != 1 || count("cached") != 2 {
		t.Errorf("%v reviews, %v from the cache", count("accepted"), count("cached"))
	}
	gone.Store(true)
	if _, err := a.Authenticate(t.Context(), tokenNumber("1")); err == nil {
		t.Error("a token outlives its pod")
	}
}

// TestReviewsAreBounded: what waits for the API server has a bound. Above it, and when no answer comes, the caller learns that the
// token was not looked at.
func TestReviewsAreBounded(t *testing.T) {
	release := make(chan struct{})
	a, count := reviewer(t, func(w http.ResponseWriter, _ *http.Request) { <-release; say(w, accepted()) })
	a.slots, a.waits = make(chan struct{}, 1), make(chan struct{}, 2)
	var wg sync.WaitGroup
	for _, n := range []string{"1", "2"} {
		wg.Go(func() {
			if _, err := a.Authenticate(t.Context(), tokenNumber(n)); err != nil {
				t.Errorf("one within the bound: %v", err)
			}
		})
	}
	eventually(t, "two wait", func() bool { return len(a.waits) == 2 })
	if _, err := a.Authenticate(t.Context(), tokenNumber("3")); !errors.Is(err, auth.ErrUnavailable) || count("overload") != 1 {
		t.Errorf("one above the bound: %v", err)
	}
	close(release)
	wg.Wait()
	if _, err := a.Authenticate(t.Context(), tokenNumber("3")); err != nil {
		t.Errorf("later: %v", err)
	}
	broken, count := reviewer(t, func(w http.ResponseWriter, _ *http.Request) {
		say(w, apierrors.NewInternalError(errors.New("etcd is away")))
	})
	if _, err := broken.Authenticate(t.Context(), tokenNumber("1")); !errors.Is(err, auth.ErrUnavailable) || count("error") != 1 {
		t.Errorf("a server without an answer: %v", err)
	}
}

// TestTerminatingNamespace: a namespace that does not get to its end takes no ConfigMaps, and does not hold a rotation.
func TestTerminatingNamespace(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	s, err := NewSource(connect(t, &rest.Config{Host: "http://127.0.0.1:1"}), "istio-system", log, NewMetrics(prometheus.NewRegistry()))
	must(t, err)
	spaces, have := s.informers[objects.Namespace].shared.GetStore(), cache.NewStore(cache.MetaNamespaceKeyFunc)
	must(t, spaces.Add(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "stays"}}))
	must(t, spaces.Add(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "going", DeletionTimestamp: &metav1.Time{Time: noon}}}))
	r := NewRootConfigMaps(s, &bundle{roots: "one"})
	r.setStore(have)
	if err := r.Distributed(t.Context(), []byte("one")); err == nil || !strings.Contains(err.Error(), "stays") {
		t.Errorf("without the roots: %v", err)
	}
	must(t, have.Add(&corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "stays", Name: RootConfigMapName, Labels: map[string]string{rootLabel: "true"}}, Data: map[string]string{rootConfigMapKey: "one"},
	}))
	if err := r.Distributed(t.Context(), []byte("one")); err != nil {
		t.Errorf("with the roots: %v", err)
	}
}

// lines is a log that can be read while it is written.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), text)
}

// TestLeaderWithoutRights: a leader that may not read what it is to keep says so.
func TestLeaderWithoutRights(t *testing.T) {
	c := scripted(t, func(w http.ResponseWriter, r *http.Request) {
		say(w, apierrors.NewForbidden(schema.GroupResource{Resource: r.URL.Path}, "", errors.New("no")))
	})
	out := &lines{}
	log, m := slog.New(slog.NewTextHandler(out, nil)), NewMetrics(prometheus.NewRegistry())
	s, err := NewSource(c, "istio-system", log, m)
	must(t, err)
	run(t, NewRootConfigMaps(s, &bundle{roots: "one"}).Lead)
	run(t, NewWebhookBundles(c, WebhookOwner, &bundle{roots: "one"}, log, m).Lead)
	for _, what := range []string{`what="configmaps istio-ca-root-cert"`, "what=validatingwebhookconfigurations"} {
		eventually(t, what, func() bool { return out.has(what) && out.has("is forbidden") })
	}
}

// TestRefused: each answer is said once, and only answers are.
func TestRefused(t *testing.T) {
	var out strings.Builder
	f := refused(slog.New(slog.NewTextHandler(&out, nil)), "things")
	no := apierrors.NewForbidden(schema.GroupResource{Resource: "things"}, "", errors.New("no"))
	for _, err := range []error{no, no, errors.New("connection refused"), apierrors.NewResourceExpired("too old"), no, apierrors.NewUnauthorized("who")} {
		f(t.Context(), nil, err)
	}
	if n := strings.Count(out.String(), "level=WARN"); n != 2 {
		t.Errorf("%d lines:\n%s", n, &out)
	}
}
