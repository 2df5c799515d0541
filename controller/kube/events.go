package kube

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"

	"github.com/ambit-mesh/ambit/controller/objects"
)

// events tells the owners of objects what was refused, where they look: at the object. client-go gathers repeats and bounds
// their rate for each object; what is above the bound is lost, the condition stays.
type events struct {
	broadcaster record.EventBroadcaster
	recorder    record.EventRecorder
}

func newEvents(ctx context.Context, c *Cluster) *events {
	b := record.NewBroadcaster(record.WithContext(ctx))
	b.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: c.writes.CoreV1().Events("")})
	return &events{b, b.NewRecorder(runtime.NewScheme(), corev1.EventSource{Component: fieldManager})}
}

func (e *events) end() { e.broadcaster.Shutdown() }

// refusals makes an event of every wanted condition that says no, or yes with a reservation, and that the object did
// not say before.
func (e *events) refusals(o *unstructured.Unstructured, before map[string]any, want objects.Status) {
	said := map[[3]string]bool{}
	note := func(conditions []any) {
		for _, c := range conditions {
			m, _ := c.(map[string]any)
			t, _ := m["type"].(string)
			r, _ := m["reason"].(string)
			text, _ := m["message"].(string)
			said[[3]string{t, r, text}] = true
		}
	}
	note(list(before["conditions"]))
	for _, field := range []string{"listeners", "parents"} {
		for _, entry := range list(before[field]) {
			m, _ := entry.(map[string]any)
			note(list(m["conditions"]))
		}
	}
	for _, c := range conditionsOf(want) {
		if id := [3]string{c.Type, c.Reason, c.Message}; refuses(c) && !said[id] {
			said[id] = true
			e.recorder.Event(o, corev1.EventTypeWarning, c.Reason, c.Message)
		}
	}
}

// refuses reports a condition that somebody should act on, or that says what of an object does nothing. Of MeshConfig, a
// ConfigMap, the event is all that its owner sees.
func refuses(c objects.Condition) bool {
	return !c.Status || c.Reason == "UnsupportedValue" || c.Reason == "FieldsIgnored" || c.Reason == "Overridden"
}

func conditionsOf(s objects.Status) []objects.Condition {
	out := append([]objects.Condition(nil), s.Conditions...)
	for _, l := range s.Listeners {
		out = append(out, l.Conditions...)
	}
	for _, p := range s.Parents {
		out = append(out, p.Conditions...)
	}
	return out
}
