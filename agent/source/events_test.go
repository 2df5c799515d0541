package source

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/ambit-mesh/ambit/agent/pods"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

// events waits until the API server has those that are wanted.
func events(t *testing.T, client *fake.Clientset, ok func([]corev1.Event) bool) []corev1.Event {
	t.Helper()
	for limit := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		list, err := client.CoreV1().Events("").List(context.Background(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if ok(list.Items) {
			return list.Items
		}
		if time.Now().After(limit) {
			t.Fatalf("never: %+v", list.Items)
		}
	}
}

func TestEvents(t *testing.T) {
	client := fake.NewClientset()
	k := NewKubernetes(client, "n1", slog.New(slog.DiscardHandler))
	key, other := pods.Key{Namespace: "shop", Name: "web"}, pods.Key{Namespace: "shop", Name: "last"}
	k.Warn(key, "u-1", "TooEarly", "nobody is told before Run")
	run(t, k.Run)
	await(t, k, "the first list", func(*pods.Set) bool { return true })
	k.Warn(key, "u-1", "ForeignHooks", strings.Repeat("é", eventMessage))
	for i := range 4 * eventBurst {
		k.Warn(key, "u-1", fmt.Sprintf("Reason%d", i), "one of many")
	}
	k.Warn(other, "u-2", "Last", "m") // the queue is in order
	list := events(t, client, func(l []corev1.Event) bool {
		for _, e := range l {
			if e.Reason == "Last" {
				return true
			}
		}
		return false
	})
	got := map[string]int{}
	for _, e := range list {
		got[e.InvolvedObject.Name] += int(e.Count)
		if e.Reason == "TooEarly" || e.Type != corev1.EventTypeWarning || e.Source.Component != "ambit-agent" || e.Source.Host != "n1" || len(e.Message) > 1024 {
			t.Errorf("event %+v", e)
		}
		if e.Reason == "ForeignHooks" && (e.InvolvedObject.UID != "u-1" || e.InvolvedObject.Namespace != "shop" || e.InvolvedObject.Kind != "Pod") {
			t.Errorf("event on %+v", e.InvolvedObject)
		}
	}
	if got["web"] != eventBurst || got["last"] != 1 {
		t.Errorf("events by pod %v; want %d of web (the limit), 1 of last", got, eventBurst)
	}
}
