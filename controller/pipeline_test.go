package controller

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ambit-mesh/ambit/controller/api/workload"
	"github.com/ambit-mesh/ambit/controller/objects"
	"github.com/ambit-mesh/ambit/controller/source"
	"github.com/ambit-mesh/ambit/controller/xds"
)

func pacedPod(i int, ip string) objects.Change {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: fmt.Sprint("web", i)},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}}},
	}
	return objects.Change{Key: objects.Key{Kind: objects.Pod, Namespace: "shop", Name: pod.Name}, Object: objects.Trim(pod)}
}

// TestHeldUntilMeshConfigIsValid: a first state under a MeshConfig that nobody can read is not published, and /ready says why.
func TestHeldUntilMeshConfigIsValid(t *testing.T) {
	table, synced := xds.NewTable(), 0
	p := newPipeline(Config{}.Defaults(), table, newResidents(nil), testMetrics(), func() { synced++ }, func() { t.Error("failed") })
	mesh := func(text string) objects.Change {
		return objects.Change{
			Key: objects.Key{Kind: objects.ConfigMap, Namespace: "istio-system", Name: objects.MeshConfigName},
			Object: &corev1.ConfigMap{
				ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: objects.MeshConfigName}, Data: map[string]string{objects.MeshConfigKey: text},
			},
		}
	}
	p.deliver(t.Context(), source.Batch{Changes: []objects.Change{mesh("rootNamespace: ["), pacedPod(1, "10.0.0.1")}, Synced: true})
	if n := table.Counts()[workload.AddressTypeURL]; n != 0 || synced != 0 || len(p.held()) != 1 {
		t.Fatalf("%d published, told %d times, held by %q", n, synced, p.held())
	}
	p.deliver(t.Context(), source.Batch{Changes: []objects.Change{mesh("rootNamespace: good")}, Synced: true})
	if n := table.Counts()[workload.AddressTypeURL]; n != 1 || synced != 1 || len(p.held()) != 0 {
		t.Errorf("%d published, told %d times, held by %q", n, synced, p.held())
	}
}

// TestPace: nothing is published before the first state is whole; then a lone change is published at once, and in a burst one
// publication every pace.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := xds.NewTable()
		synced := 0
		cfg := Config{}.Defaults()
		p := newPipeline(cfg, table, newResidents(nil), testMetrics(), func() { synced++ }, func() { t.Error("failed") })
		count := func() int { return table.Counts()[workload.AddressTypeURL] }
		deliver := func(i int, synced bool) (took time.Duration) {
			start := time.Now()
			p.deliver(t.Context(), source.Batch{Changes: []objects.Change{pacedPod(i, fmt.Sprintf("10.0.0.%d", i))}, Synced: synced})
			return time.Since(start)
		}
		deliver(1, false)
		deliver(2, false)
		if count() != 0 || synced != 0 {
			t.Fatalf("%d published before the state was whole", count())
		}
		deliver(3, true)
		if count() != 3 || synced != 1 {
			t.Fatalf("%d published, told %d times", count(), synced)
		}
		time.Sleep(time.Minute)
		if took := deliver(4, true); took != 0 || count() != 4 {
			t.Errorf("a lone change took %s", took)
		}
		for i := range 5 {
			if took := deliver(5+i, true); took != pace {
				t.Errorf("change %d of a burst took %s", i, took)
			}
		}
		if synced != 1 {
			t.Errorf("told %d times", synced)
		}
	})
}
