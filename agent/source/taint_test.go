package source

import (
	"encoding/json"
	"errors"
	"log/slog"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	k8stesting "k8s.io/client-go/testing"
)

const notReady = "cni.istio.io/not-ready"

func taintedNode(name string, taints ...corev1.Taint) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: "uid-n", ResourceVersion: "7"}, Spec: corev1.NodeSpec{Taints: taints},
	}
}

func TestUntaint(t *testing.T) {
	other := corev1.Taint{Key: "dedicated", Value: "x", Effect: corev1.TaintEffectNoSchedule}
	ours := []corev1.Taint{{Key: notReady, Effect: corev1.TaintEffectNoSchedule}, {Key: notReady, Value: "v", Effect: corev1.TaintEffectNoExecute}}
	client := fake.NewClientset(taintedNode("n1", ours[0], other, ours[1]), taintedNode("n2", ours[0]))
	k := NewKubernetes(client, "n1", slog.New(slog.DiscardHandler))
	for i, want := range []bool{true, false} {
		if got, err := k.Untaint(t.Context(), notReady); err != nil || got != want {
			t.Errorf("call %d: %v, %v; want %v", i, got, err, want)
		}
	}
	for name, want := range map[string][]corev1.Taint{"n1": {other}, "n2": {ours[0]}} {
		node, err := client.CoreV1().Nodes().Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, node.Spec.Taints); d != "" {
			t.Errorf("taints of %s (-want +got):\n%s", name, d)
		}
	}
	var patches []string
	for _, a := range client.Actions() {
		if p, ok := a.(k8stesting.PatchAction); ok {
			patches = append(patches, string(p.GetPatch()))
		}
	}
	var sent struct{ Metadata metav1.ObjectMeta }
	if len(patches) != 1 || json.Unmarshal([]byte(patches[0]), &sent) != nil || sent.Metadata.ResourceVersion != "7" || sent.Metadata.UID == "" {
		t.Errorf("patches %q: want one, of the version that was read", patches)
	}
}

func TestUntaintLastOne(t *testing.T) {
	client := fake.NewClientset(taintedNode("n1", corev1.Taint{Key: notReady, Effect: corev1.TaintEffectNoSchedule}))
	if got, err := NewKubernetes(client, "n1", slog.New(slog.DiscardHandler)).Untaint(t.Context(), notReady); !got || err != nil {
		t.Errorf("%v, %v", got, err)
	}
	node, err := client.CoreV1().Nodes().Get(t.Context(), "n1", metav1.GetOptions{})
	if err != nil || len(node.Spec.Taints) != 0 {
		t.Errorf("taints %v, %v", node.Spec.Taints, err)
	}
}

func TestUntaintErrors(t *testing.T) {
	if _, err := NewKubernetes(fake.NewClientset(), "n1", slog.New(slog.DiscardHandler)).Untaint(t.Context(), notReady); !apierrors.IsNotFound(errors.Unwrap(err)) {
		t.Errorf("a node that is not there: %v", err)
	}
	client := fake.NewClientset(taintedNode("n1", corev1.Taint{Key: notReady}))
	client.PrependReactor("patch", "nodes", func(k8stesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewConflict(schema.GroupResource{Resource: "nodes"}, "n1", errors.New("changed"))
	})
	if got, err := NewKubernetes(client, "n1", slog.New(slog.DiscardHandler)).Untaint(t.Context(), notReady); got || !apierrors.IsConflict(err) {
		t.Errorf("a conflict: %v, %v", got, err)
	}
}
