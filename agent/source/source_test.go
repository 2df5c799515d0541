package source

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ambit-mesh/ambit/agent/pods"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

const patience = 20 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const manifest = `
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio.io/dataplane-mode: ambient}}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, uid: u-1, labels: {app: web}, annotations: {a: b}}
spec:
  nodeName: n1
  serviceAccountName: web
  dnsPolicy: None
  dnsConfig: {nameservers: [10.96.0.10, nonsense]}
  initContainers:
  - {name: side, restartPolicy: Always, startupProbe: {tcpSocket: {port: 9000}}}
  containers:
  - name: c
    ports: [{name: http, containerPort: 8080}]
    livenessProbe: {httpGet: {port: http}}
    readinessProbe: {grpc: {port: 9090}}
    startupProbe: {httpGet: {port: 8081, host: 1.2.3.4}}
    lifecycle: {preStop: {httpGet: {port: 8080}}, postStart: {tcpSocket: {port: 7000}}}
status:
  phase: Running
  podIP: 10.1.0.5
  podIPs: [{ip: 10.1.0.5}, {ip: "fd00::5"}]
---
apiVersion: v1
kind: Pod
metadata: {name: other, namespace: shop, uid: u-2}
spec: {nodeName: n2, containers: []}
---
apiVersion: v1
kind: Service
metadata: {name: x, nonsense: true}
---
apiVersion: v1
kind: Pod
metadata: {name: bare}
spec: {nodeName: n1, hostNetwork: true, containers: []}
`

func want() []pods.Pod {
	return []pods.Pod{
		{UID: "default/bare", Key: pods.Key{Namespace: "default", Name: "bare"}, ServiceAccount: "default", HostNetwork: true},
		{
			UID: "u-1", Key: pods.Key{Namespace: "shop", Name: "web"}, ServiceAccount: "web", Phase: "Running",
			Labels: map[string]string{"app": "web"}, Annotations: map[string]string{"a": "b"},
			IPs:         []netip.Addr{netip.MustParseAddr("10.1.0.5"), netip.MustParseAddr("fd00::5")},
			Nameservers: []netip.Addr{netip.MustParseAddr("10.96.0.10")},
			Ports:       []uint16{8080}, ProbePorts: []uint16{7000, 8080, 9000, 9090},
		},
	}
}

func differ(got []pods.Pod) string {
	return cmp.Diff(want(), got, cmpopts.EquateEmpty(), cmp.Comparer(func(a, b netip.Addr) bool { return a == b }))
}

// run starts a source's Run; it ends with the test.
func run(t *testing.T, f func(context.Context) error) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("source: %v", err)
		}
	})
}

// source is what both have.
type source interface {
	Set() *pods.Set
	Changed() <-chan struct{}
}

func await(t *testing.T, s source, what string, ok func(*pods.Set) bool) {
	t.Helper()
	limit := time.After(patience)
	for s.Set() == nil || !ok(s.Set()) {
		select {
		case <-s.Changed():
		case <-limit:
			t.Fatalf("never: %s", what)
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".part", []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".part", path); err != nil {
		t.Fatal(err)
	}
}

func TestFolderFollowsItsFiles(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a.yaml"), manifest)
	f := NewFolder(dir, "n1", slog.New(slog.DiscardHandler))
	run(t, f.Run)
	await(t, f, "the first read", func(s *pods.Set) bool { return len(s.Pods()) == 2 })
	if d := differ(f.Set().Pods()); d != "" {
		t.Errorf("pods (-want +got):\n%s", d)
	}
	if ns, ok := f.Set().Namespace("shop"); !ok || ns.Labels["istio.io/dataplane-mode"] != "ambient" {
		t.Errorf("namespace %+v, %v", ns, ok)
	}
	if err := os.Mkdir(filepath.Join(dir, "more"), 0o755); err != nil {
		t.Fatal(err)
	}
	pod := func(name, field string) string {
		return `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"` + name + `"},"spec":{"nodeName":"n1","containers":[]` + field + `}}`
	}
	path := filepath.Join(dir, "more", "b.json")
	write(t, path, pod("late", ""))
	await(t, f, "a file in a new folder", func(s *pods.Set) bool { _, ok := s.ByUID("default/late"); return ok })
	write(t, path, pod("late", `,"hostNetwerk":true`))
	write(t, filepath.Join(dir, "c.json"), pod("third", ""))
	await(t, f, "a file after a bad one", func(s *pods.Set) bool { _, ok := s.ByUID("default/third"); return ok })
	if _, ok := f.Set().ByUID("default/late"); !ok {
		t.Error("a file that went bad lost what it said last")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	await(t, f, "a file that went away", func(s *pods.Set) bool { _, ok := s.ByUID("default/late"); return !ok })
}

func TestFolderNotesRedirection(t *testing.T) {
	dir := t.TempDir()
	f := NewFolder(dir, "n1", slog.New(slog.DiscardHandler))
	key := pods.Key{Namespace: "shop", Name: "web"}
	path := filepath.Join(dir, "status", "pods", "shop_web.json")
	for _, value := range []string{Pending, Enabled} {
		if err := f.Annotate(t.Context(), key, "u-1", value); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var note struct{ Annotations map[string]string }
		if err := json.Unmarshal(text, &note); err != nil || note.Annotations[Redirection] != value {
			t.Errorf("note %s, %v; want %s", text, err, value)
		}
	}
	for range 2 {
		if err := f.Annotate(t.Context(), key, "u-1", ""); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the note is still there: %v", err)
	}
}

func TestFolderThatIsNotThere(t *testing.T) {
	f := NewFolder(filepath.Join(t.TempDir(), "absent"), "n1", slog.New(slog.DiscardHandler))
	if err := f.Run(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestKubernetes(t *testing.T) {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", UID: "u-1"},
		Spec:       corev1.PodSpec{NodeName: "n1"}, Status: corev1.PodStatus{PodIP: "10.1.0.5"},
	}
	client := fake.NewClientset(pod,
		&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "other", UID: "u-2"}, Spec: corev1.PodSpec{NodeName: "n2"}},
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", Labels: map[string]string{"x": "y"}}})
	k := NewKubernetes(client, "n1", slog.New(slog.DiscardHandler))
	run(t, k.Run)
	await(t, k, "the first list", func(s *pods.Set) bool { return len(s.Pods()) == 1 })
	if ns, ok := k.Set().Namespace("shop"); !ok || ns.Labels["x"] != "y" {
		t.Errorf("namespace %+v, %v", ns, ok)
	}
	key := pods.Key{Namespace: "shop", Name: "web"}
	for _, value := range []string{Enabled, ""} {
		if err := k.Annotate(t.Context(), key, "u-1", value); err != nil {
			t.Fatal(err)
		}
		await(t, k, "the annotation "+value, func(s *pods.Set) bool {
			p, ok := s.ByUID("u-1")
			return ok && p.Annotations[Redirection] == value
		})
	}
	if err := k.Annotate(t.Context(), pods.Key{Namespace: "shop", Name: "gone"}, "u-9", Enabled); err != nil {
		t.Errorf("annotating a pod that is gone: %v", err)
	}
	if err := client.CoreV1().Pods("shop").Delete(t.Context(), "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	await(t, k, "the deletion", func(s *pods.Set) bool { return len(s.Pods()) == 0 })
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(manifest))
	f.Add([]byte("---\n---\n{"))
	f.Fuzz(func(t *testing.T, text []byte) {
		list, _, err := decode(text, "n1")
		if err != nil && list != nil {
			t.Fatal("pods beside an error")
		}
		for _, p := range list {
			if p.Key.Name == "" || p.Key.Namespace == "" || p.UID == "" {
				t.Fatalf("a pod without a name: %+v", p)
			}
		}
	})
}
