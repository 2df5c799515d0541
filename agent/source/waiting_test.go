package source

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	k8stesting "k8s.io/client-go/testing"
)

// An agent that may not list namespaces says so, and says nothing of the pods, which it has.
func TestWaiting(t *testing.T) {
	client := fake.NewClientset()
	client.PrependReactor("list", "namespaces", func(k8stesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewForbidden(schema.GroupResource{Resource: "namespaces"}, "", errors.New("no such right"))
	})
	k := NewKubernetes(client, "n1", slog.New(slog.DiscardHandler))
	if got := k.Waiting(); len(got) != 2 || !strings.Contains(got[0], "pods of node n1") {
		t.Errorf("before Run: %q", got)
	}
	run(t, k.Run)
	for limit := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		got := k.Waiting()
		if len(got) == 1 && strings.Contains(got[0], "namespaces") && strings.Contains(got[0], "no such right") {
			return
		}
		if time.Now().After(limit) {
			t.Fatalf("waiting for %q", got)
		}
	}
}
