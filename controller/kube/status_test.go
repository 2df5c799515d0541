package kube

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/ambit-mesh/ambit/controller/kube/kubetest"
	"github.com/ambit-mesh/ambit/controller/objects"
)

func (w *world) live(key objects.Key) *unstructured.Unstructured {
	w.t.Helper()
	o, err := w.cluster.objects.Resource(kindNamed(w.t, key.Kind).resource).Namespace(w.namespace).Get(w.t.Context(), key.Name, metav1.GetOptions{})
	must(w.t, err)
	return o
}

func (w *world) patchStatus(key objects.Key, patch string) {
	w.t.Helper()
	_, err := w.cluster.objects.Resource(kindNamed(w.t, key.Kind).resource).Namespace(w.namespace).
		Patch(w.t.Context(), key.Name, types.MergePatchType, []byte(`{"status":`+patch+`}`), metav1.PatchOptions{}, "status")
	must(w.t, err)
}

func (w *world) condition(key objects.Key, typ string) map[string]any {
	status, _ := w.live(key).Object["status"].(map[string]any)
	for _, c := range list(status["conditions"]) {
		if m, ok := c.(map[string]any); ok && m["type"] == typ {
			return m
		}
	}
	return nil
}

// TestStatus: conditions get onto objects of every kind, beside those of others; they are repaired, replaced and removed; a second
// writer that wants the same writes nothing.
func TestStatus(t *testing.T) {
	w := newWorld(t, kubetest.Server(t))
	svc, entry := w.key(objects.Service, "cart"), w.key(objects.ServiceEntry, "db")
	policy, gateway, route := w.key(objects.AuthorizationPolicy, "deny"), w.key(objects.Gateway, "waypoint"), w.key(objects.HTTPRoute, "r")
	stale := w.key(objects.Service, "stale")
	w.create(objects.Service, "cart", `"spec":{"ports":[{"port":80}]}`)
	w.create(objects.Service, "stale", `"spec":{"ports":[{"port":80}]}`)
	w.create(objects.ServiceEntry, "db", entrySpec)
	w.create(objects.AuthorizationPolicy, "deny", `"spec":{"action":"DENY"}`)
	w.create(objects.Gateway, "waypoint", `"spec":{"gatewayClassName":"istio-waypoint","listeners":[{"name":"mesh","port":15008,"protocol":"HBONE"}]}`)
	w.create(objects.HTTPRoute, "r", `"spec":{"parentRefs":[{"group":"","kind":"Service","name":"cart","port":80}]}`)
	w.create(objects.ConfigMap, "istio", `"data":{"mesh":"accessLogFile: /dev/stdout"}`)
	theirs := `{"conditions":[{"type":"example.com/Theirs","status":"True","reason":"X","message":"","lastTransitionTime":"2026-01-01T00:00:00Z"}]}`
	w.patchStatus(svc, theirs)
	w.patchStatus(stale, `{"conditions":[{"type":"istio.io/WaypointBound","status":"True","reason":"X","message":"","lastTransitionTime":"2026-01-01T00:00:00Z"}]}`)

	accepted := objects.Condition{Type: "Accepted", Status: true, Reason: "Accepted"}
	wants := []objects.Status{
		{Key: svc, Conditions: []objects.Condition{bound}},
		{Key: entry, Generation: 1, Conditions: []objects.Condition{unbound}, Addresses: []objects.HostAddress{{Host: "db.example.com", Value: "240.240.0.1"}}},
		{Key: policy, Generation: 1, Conditions: []objects.Condition{{Type: "ZtunnelAccepted", Status: true, Reason: "UnsupportedValue", Message: "methods are not enforced"}}},
		{Key: gateway, Generation: 1, Conditions: []objects.Condition{accepted}, Listeners: []objects.ListenerStatus{{Name: "mesh", AttachedRoutes: 1, SupportedKinds: []objects.GroupKind{{Group: "gateway.networking.k8s.io", Kind: "HTTPRoute"}}, Conditions: []objects.Condition{accepted}}}},
		{Key: route, Generation: 1, Parents: []objects.ParentStatus{{Ref: objects.ParentRef{GroupKind: objects.GroupKind{Kind: "Service"}, Name: "cart", Port: 80}, Conditions: []objects.Condition{accepted}}}},
	}
	s := w.source()
	var got receiver
	run(t, func(ctx context.Context) error { return s.Run(ctx, got.deliver) })
	eventually(t, "the first state", got.synced)
	writer := NewStatus(s)
	stop := run(t, writer.Lead)
	must(t, writer.WriteStatus(t.Context(), wants))
	// A ConfigMap cannot hold it: the event is all there is.
	reserved := objects.Condition{Type: "ambit.io/MeshConfigAccepted", Status: true, Reason: "FieldsIgnored", Message: "without effect here: accessLogFile"}
	must(t, writer.WriteStatus(t.Context(), []objects.Status{{Key: w.key(objects.ConfigMap, "istio"), Conditions: []objects.Condition{reserved}}}))
	said := func() bool {
		for _, want := range wants {
			if !s.notes.get(want.Key).says(want) {
				return false
			}
		}
		return s.notes.get(stale) == nil
	}
	eventually(t, "all is written, and comes back as it was wanted", said)
	if w.condition(svc, "example.com/Theirs") == nil {
		t.Error("another's condition is lost")
	}
	since := w.condition(svc, bound.Type)["lastTransitionTime"]

	eventually(t, "events for refusals", func() bool {
		events, err := w.cluster.reads.CoreV1().Events(w.namespace).List(t.Context(), metav1.ListOptions{})
		must(t, err)
		told := map[string]string{}
		for _, e := range events.Items {
			told[e.InvolvedObject.Kind+"/"+e.InvolvedObject.Name] = e.Reason
		}
		return told["ServiceEntry/db"] == "AttachmentDenied" && told["AuthorizationPolicy/deny"] == "UnsupportedValue" && told["Service/cart"] == "" &&
			told["ConfigMap/istio"] == "FieldsIgnored"
	})

	// Somebody else changes ours; and the text changes while the status stays.
	w.patchStatus(policy, `{"conditions":[]}`)
	eventually(t, "the repair", said)
	wants[0].Conditions = []objects.Condition{{Type: bound.Type, Status: true, Reason: bound.Reason, Message: "bound to another"}}
	must(t, writer.WriteStatus(t.Context(), wants[:1]))
	eventually(t, "the new text", said)
	if now := w.condition(svc, bound.Type)["lastTransitionTime"]; now != since {
		t.Errorf("time of transition moved from %v to %v", since, now)
	}

	// Another leader, which knows only what it wants and what it sees.
	stop()
	versions := map[objects.Key]string{}
	for _, want := range wants {
		versions[want.Key] = w.live(want.Key).GetResourceVersion()
	}
	next := NewStatus(s)
	must(t, next.WriteStatus(t.Context(), wants))
	run(t, next.Lead)
	extra := w.key(objects.ServiceEntry, "late")
	w.create(objects.ServiceEntry, "late", entrySpec)
	last := objects.Status{Key: extra, Generation: 1, Conditions: []objects.Condition{bound}}
	must(t, next.WriteStatus(t.Context(), []objects.Status{last})) // behind all others in the queue
	eventually(t, "the new leader's first write", func() bool { return s.notes.get(extra).says(last) })
	for key, v := range versions {
		if now := w.live(key).GetResourceVersion(); now != v {
			t.Errorf("%s was written again", key)
		}
	}
	must(t, next.WriteStatus(t.Context(), []objects.Status{{Key: svc}, {Key: route}}))
	eventually(t, "the removal", func() bool { return s.notes.get(svc) == nil && s.notes.get(route) == nil })
	if w.condition(svc, "example.com/Theirs") == nil {
		t.Error("another's condition is lost")
	}
	must(t, next.WriteStatus(t.Context(), []objects.Status{{Key: w.key(objects.Service, "never"), Conditions: []objects.Condition{bound}}}))
}

// TestElect: one of two writes. Cut off from the API server it stops before its lease runs out, and the other takes over; a
// leader that ends gives the lease back.
func TestElect(t *testing.T) {
	cfg := kubetest.Server(t)
	way, through := newRoad(t, cfg)
	w := newWorld(t, cfg)
	e := Election{Namespace: w.namespace, Name: "writer", Duration: 10 * time.Second, Renew: 6 * time.Second, Retry: time.Second}
	terms := make(chan string, 20)
	replica := func(c *Cluster, name string) (stop func()) {
		mine := e
		mine.Identity = name
		return run(t, func(ctx context.Context) error {
			return c.Elect(ctx, mine, w.log, w.metrics, func(ctx context.Context) error {
				terms <- name + " begins"
				<-ctx.Done()
				terms <- name + " ends"
				return nil
			})
		})
	}
	expect := func(want string) {
		t.Helper()
		select {
		case got := <-terms:
			if got != want {
				t.Fatalf("%s; want %s", got, want)
			}
		case <-time.After(time.Minute):
			t.Fatalf("not within a minute: %s", want)
		}
	}
	replica(connect(t, through), "a")
	expect("a begins")
	stopB := replica(w.cluster, "b")
	way.set(false)
	expect("a ends")
	expect("b begins")
	way.set(true)
	stopB()
	expect("b ends")
	expect("a begins")
	lease, err := w.cluster.leases.CoordinationV1().Leases(w.namespace).Get(t.Context(), "writer", metav1.GetOptions{})
	must(t, err)
	if *lease.Spec.HolderIdentity != "a" {
		t.Errorf("the lease is %v's", *lease.Spec.HolderIdentity)
	}
	failing := e
	failing.Name, failing.Identity = "failing", "c"
	broken := errors.New("broken")
	if err := w.cluster.Elect(t.Context(), failing, w.log, w.metrics, func(context.Context) error { return broken }); !errors.Is(err, broken) || !strings.Contains(err.Error(), "leader's work") {
		t.Errorf("a writer's failure: %v", err)
	}
}
