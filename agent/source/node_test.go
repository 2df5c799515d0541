package source

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	"github.com/ambit-mesh/ambit/agent/pods"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes/fake"
)

func TestEventsOnTheNode(t *testing.T) {
	client := fake.NewClientset()
	if err := TellNode(context.Background(), client, "n1", "Ended", strings.Repeat("é", eventMessage)); err != nil {
		t.Fatal(err)
	}
	k := NewKubernetes(client, "n1", slog.New(slog.DiscardHandler))
	run(t, k.Run)
	await(t, k, "the first list", func(*pods.Set) bool { return true })
	k.WarnNode("Lasting", "what to do")
	for _, e := range events(t, client, func(l []corev1.Event) bool { return len(l) == 2 }) {
		on := e.InvolvedObject
		if e.Namespace != "default" || e.Type != corev1.EventTypeWarning || e.Source.Component != "ambit-agent" || e.Source.Host != "n1" || len(e.Message) > 1024 ||
			on.Kind != "Node" || on.Name != "n1" || on.UID != "n1" || on.APIVersion != "v1" || e.Count != 1 || e.LastTimestamp.IsZero() {
			t.Errorf("event %+v", e)
		}
	}
}
