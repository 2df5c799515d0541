package kube

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/ambit-mesh/ambit/controller/kube/kubetest"
	"github.com/ambit-mesh/ambit/controller/objects"
	"github.com/ambit-mesh/ambit/controller/source"
)

func connect(t *testing.T, cfg *rest.Config) *Cluster {
	t.Helper()
	c, err := New(cfg, "test")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// world is one test's namespace, and what it works with.
type world struct {
	t         *testing.T
	cluster   *Cluster
	namespace string
	log       *slog.Logger
	metrics   *Metrics
}

func newWorld(t *testing.T, cfg *rest.Config) *world {
	t.Helper()
	w := &world{t: t, cluster: connect(t, cfg), log: slog.New(slog.NewTextHandler(testWriter{t}, nil)), metrics: NewMetrics(prometheus.NewRegistry())}
	admin := connect(t, kubetest.Server(t))
	ns, err := admin.reads.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "ambit-kube-"}}, metav1.CreateOptions{})
	must(t, err)
	w.namespace = ns.Name
	t.Cleanup(func() {
		_ = admin.reads.CoreV1().Namespaces().Delete(context.WithoutCancel(t.Context()), ns.Name, metav1.DeleteOptions{})
	})
	return w
}

// kinds are all, within the test's namespace: others use the same server.
func (w *world) kinds() []kind {
	all := kinds(w.namespace)
	for i := range all {
		switch all[i].name {
		case objects.Namespace:
			all[i].object = w.namespace
		case objects.Node, objects.GatewayClass:
			all[i].object = w.namespace // a name that is as good as any
		default:
			all[i].namespace = w.namespace
		}
	}
	return all
}

func (w *world) source(extra ...kind) *Source {
	w.t.Helper()
	s, err := newSource(w.cluster, append(w.kinds(), extra...), w.log, w.metrics)
	must(w.t, err)
	return s
}

// run runs f until the test ends, or the returned function is called, which waits for it.
func run(t *testing.T, f func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("ended with: %v", err)
			}
		case <-time.After(time.Minute):
			t.Error("does not end")
		}
	})
	t.Cleanup(stop)
	return stop
}

// receiver is the state a source has delivered.
type receiver struct {
	mu      sync.Mutex
	now     map[objects.Key]objects.Object
	batches []source.Batch
}

func (r *receiver) deliver(b source.Batch) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.now == nil {
		r.now = map[objects.Key]objects.Object{}
	}
	for _, c := range b.Changes {
		if c.Object == nil {
			delete(r.now, c.Key)
		} else {
			r.now[c.Key] = c.Object
		}
	}
	r.batches = append(r.batches, b)
}

func (r *receiver) get(k objects.Key) objects.Object {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now[k]
}

func (r *receiver) synced() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.batches) > 0 && r.batches[0].Synced
}

func (r *receiver) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.batches)
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !f() {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s", what)
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-t.Context().Done():
			t.Fatal("test ends: ", what)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	if w.t.Context().Err() == nil {
		w.t.Log(strings.TrimSpace(string(b)))
	}
	return len(b), nil
}

// road is the way to the API server, which can be closed.
type road struct {
	lis    net.Listener
	target string

	mu    sync.Mutex
	open  bool
	conns map[net.Conn]struct{}
}

// newRoad makes one, and the configuration that takes it.
func newRoad(t *testing.T, cfg *rest.Config) (*road, *rest.Config) {
	t.Helper()
	target, err := url.Parse(cfg.Host)
	must(t, err)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	r := &road{lis: lis, target: target.Host, open: true, conns: map[net.Conn]struct{}{}}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := lis.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { r.carry(c) })
		}
	})
	t.Cleanup(func() { _ = lis.Close(); r.set(false); wg.Wait() })
	out := rest.CopyConfig(cfg)
	out.Host = "https://" + lis.Addr().String()
	out.ServerName = target.Hostname()
	return r, out
}

func (r *road) carry(c net.Conn) {
	defer c.Close()
	up, err := net.Dial("tcp", r.target)
	if err != nil {
		return
	}
	defer up.Close()
	r.mu.Lock()
	if !r.open {
		r.mu.Unlock()
		return
	}
	r.conns[c], r.conns[up] = struct{}{}, struct{}{}
	r.mu.Unlock()
	var wg sync.WaitGroup
	for _, pair := range [][2]net.Conn{{c, up}, {up, c}} {
		wg.Go(func() {
			_, _ = io.Copy(pair[0], pair[1])
			_ = c.Close()
			_ = up.Close()
		})
	}
	wg.Wait()
	r.mu.Lock()
	delete(r.conns, c)
	delete(r.conns, up)
	r.mu.Unlock()
}

// set opens the road, or closes it with all that is on it.
func (r *road) set(open bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open = open
	if !open {
		for c := range r.conns {
			_ = c.Close()
		}
	}
}
