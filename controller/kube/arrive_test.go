package kube

import (
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/ambit-mesh/ambit/controller/objects"
)

func kindNamed(t testing.TB, name objects.Kind) kind {
	t.Helper()
	for _, k := range kinds("istio-system") {
		if k.name == name {
			return k
		}
	}
	t.Fatal("no such kind: ", name)
	return kind{}
}

func rawOf(t testing.TB, text string) *raw {
	t.Helper()
	r := &raw{}
	if err := json.Unmarshal([]byte(text), r); err != nil {
		t.Fatal(err)
	}
	return r
}

// TestUnreadable: a policy that cannot be decoded keeps its last good version, and hides no other.
func TestUnreadable(t *testing.T) {
	held := map[objects.Key]objects.Object{}
	bad := map[objects.Key]error{}
	a := arrivals{
		kind:    kindNamed(t, objects.AuthorizationPolicy),
		present: func(objects.Key, *noted) {},
		last:    func(k objects.Key) objects.Object { return held[k] },
		unread:  func(k objects.Key, err error) { bad[k] = err },
	}
	const good = `{"metadata":{"namespace":"shop","name":"p","resourceVersion":"1","managedFields":[{}]},"spec":{"action":"DENY"}}`
	const broken = `{"metadata":{"namespace":"shop","name":"p","resourceVersion":"2"},"spec":{"action":{}}}`
	key := objects.Key{Kind: objects.AuthorizationPolicy, Namespace: "shop", Name: "p"}

	e, ok := a.event(watch.Event{Type: watch.Added, Object: rawOf(t, good)})
	p, is := e.Object.(*securityv1.AuthorizationPolicy)
	if !ok || !is || p.Name != "p" || p.Spec.GetAction().String() != "DENY" || p.ManagedFields != nil || bad[key] != nil {
		t.Fatalf("%v %v %v", ok, e.Object, bad)
	}
	if _, ok := a.event(watch.Event{Type: watch.Modified, Object: rawOf(t, broken)}); ok || bad[key] == nil {
		t.Errorf("an unreadable object without an earlier version was delivered: %v", bad)
	}
	held[key] = p
	if e, ok := a.event(watch.Event{Type: watch.Modified, Object: rawOf(t, broken)}); !ok || e.Object != p {
		t.Errorf("the last good version is not kept: %v", e.Object)
	}
	l, err := a.list(&rawList{ListMeta: metav1.ListMeta{ResourceVersion: "9"}, Items: []raw{*rawOf(t, broken), *rawOf(t, `{"metadata":{"name":"q","namespace":"shop"}}`)}})
	if err != nil {
		t.Fatal(err)
	}
	if got := l.(*metav1.List); len(got.Items) != 2 || got.Items[0].Object != p || got.ResourceVersion != "9" {
		t.Errorf("list: %+v", got)
	}
	if e, ok := a.event(watch.Event{Type: watch.Deleted, Object: rawOf(t, broken)}); !ok || e.Object.(*raw).Name != "p" || bad[key] != nil {
		t.Errorf("an unreadable object cannot be deleted: %v %v", e.Object, bad)
	}
	mark := watch.Event{Type: watch.Bookmark, Object: rawOf(t, broken)}
	if e, ok := a.event(mark); !ok || e != mark {
		t.Error("a bookmark was changed")
	}
}

// TestUnknownFields: what Istio's decoder leaves out of a policy is noted; what users write in its place is not believed.
func TestUnknownFields(t *testing.T) {
	a := arrivals{kind: kindNamed(t, objects.AuthorizationPolicy), present: func(objects.Key, *noted) {}, unread: func(_ objects.Key, err error) { must(t, err) }}
	for text, want := range map[string]string{
		`{"spec":{"rules":[{"from":[{"source":{"namespaces":["a"],"realms":["b"]}}],"during":"noon"}]},"metadata":{"name":"p"}}`:                        "spec.rules[0].during spec.rules[0].from[0].source.realms",
		`{"spec":{"rules":[{"from":[{"source":{"namespaces":["a"]}}]}]},"metadata":{"name":"p","annotations":{"ambit.io/unknown-fields":"x","a":"b"}}}`: "",
		`{"metadata":{"name":"p"}}`: "",
	} {
		o := a.custom(rawOf(t, text))
		got := objects.Unknown(o)
		slices.Sort(got)
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

// TestKinds: every kind decodes into something that Trim keeps the resource version of, without which an informer takes an update
// for a repetition.
func TestKinds(t *testing.T) {
	seen := map[objects.Kind]bool{}
	for _, k := range kinds("istio-system") {
		if seen[k.name] {
			t.Errorf("%s twice", k.name)
		}
		seen[k.name] = true
		var o objects.Object
		switch {
		case k.shell != nil:
			o = k.shell(metav1.ObjectMeta{})
		case k.empty != nil:
			o = k.empty()
		default:
			made, err := decodersScheme(kinds("")).New(k.gvk)
			if err != nil {
				t.Fatal(err)
			}
			o = made.(objects.Object)
		}
		o.SetResourceVersion("7")
		o.SetName("n")
		if got := objects.Trim(o); got.GetResourceVersion() != "7" || got.GetName() != "n" {
			t.Errorf("%s: trimmed to %v", k.name, got)
		}
	}
}

// TestUnchanged: heartbeats do not reach translate, changes do.
func TestUnchanged(t *testing.T) {
	pod := func(change func(*corev1.Pod)) objects.Object {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", UID: "u", Labels: map[string]string{"a": "b"}}}
		p.Spec.NodeName, p.Status.PodIP = "n1", "10.0.0.1"
		change(p)
		return objects.Trim(p)
	}
	for name, tc := range map[string]struct {
		change func(*corev1.Pod)
		same   bool
	}{
		"nothing":  {func(*corev1.Pod) {}, true},
		"version":  {func(p *corev1.Pod) { p.ResourceVersion = "9" }, true},
		"restarts": {func(p *corev1.Pod) { p.Status.ContainerStatuses = []corev1.ContainerStatus{{RestartCount: 3}} }, true},
		"label":    {func(p *corev1.Pod) { p.Labels["a"] = "c" }, false},
		"uid":      {func(p *corev1.Pod) { p.UID = "v" }, false},
		"address":  {func(p *corev1.Pod) { p.Status.PodIP = "10.0.0.2" }, false},
		"node":     {func(p *corev1.Pod) { p.Spec.NodeName = "n2" }, false},
		"ready": {func(p *corev1.Pod) {
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: "True"}}
		}, false},
		"annotation":  {func(p *corev1.Pod) { p.Annotations = map[string]string{"ambient.istio.io/redirection": "enabled"} }, false},
		"account":     {func(p *corev1.Pod) { p.Spec.ServiceAccountName = "x" }, false},
		"terminating": {func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: noon} }, false},
	} {
		if got := unchanged(pod(func(*corev1.Pod) {}), pod(tc.change)); got != tc.same {
			t.Errorf("%s: unchanged is %v", name, got)
		}
	}
}

// TestUnreadableThatWent: a policy that was deleted while nobody watched is not in the next account of its kind, and does not
// hold readiness any more, whether the server sends pages or initial events.
func TestUnreadableThatWent(t *testing.T) {
	const broken = `{"metadata":{"namespace":"shop","name":"%"},"spec":{"action":{}}}`
	item := func(name string) *raw { return rawOf(t, strings.ReplaceAll(broken, "%", name)) }
	end := watch.Event{Type: watch.Bookmark, Object: rawOf(t, `{"metadata":{"annotations":{"k8s.io/initial-events-end":"true"}}}`)}
	h := newHealth(slog.New(slog.DiscardHandler), NewMetrics(prometheus.NewRegistry()))
	a := arrivals{
		kind: kindNamed(t, objects.AuthorizationPolicy), present: func(objects.Key, *noted) {}, last: func(objects.Key) objects.Object { return nil },
		unread: func(k objects.Key, err error) { h.unread(k, err) },
		only:   func(bad map[objects.Key]struct{}) { h.onlyUnread(objects.AuthorizationPolicy, bad) },
	}
	other := objects.Key{Kind: objects.ServiceEntry, Namespace: "shop", Name: "gone"}
	h.unread(other, errors.New("of another kind"))
	held := func(when string, want ...string) {
		t.Helper()
		got := h.unreadOf(objects.AuthorizationPolicy)
		if !slices.EqualFunc(got, want, func(g, w string) bool { return strings.Contains(g, "/shop/"+w+":") }) || len(h.unreadOf(other.Kind)) != 1 {
			t.Errorf("%s: %q, want %q", when, got, want)
		}
	}
	page := func(in arrivals, end func(), more string, names ...string) {
		l := &rawList{ListMeta: metav1.ListMeta{Continue: more}}
		for _, n := range names {
			l.Items = append(l.Items, *item(n))
		}
		_, err := in.whole(l, end)
		must(t, err)
	}
	in, last := a.account()
	page(in, last, "", "gone", "stays", "stays2")
	held("first list", "gone", "stays", "stays2")
	in, last = a.account()
	page(in, last, "more", "stays")
	held("half a list", "gone", "stays", "stays2")
	page(in, last, "", "stays2")
	held("second list", "stays", "stays2")

	event := a.initial()
	event(watch.Event{Type: watch.Added, Object: item("stays")})
	held("initial events", "stays", "stays2")
	event(end)
	held("all initial events", "stays")
	event(watch.Event{Type: watch.Added, Object: item("new")})
	event(end)
	held("later", "new", "stays")
}
