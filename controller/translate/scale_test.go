package translate

import (
	"fmt"
	"runtime"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ambit-mesh/ambit/controller/objects"
)

// cluster is a synthetic one: a service per ten pods, all in as many namespaces as given.
func cluster(pods, namespaces int) []objects.Change {
	var out []objects.Change
	add := func(kind objects.Kind, o objects.Object) {
		out = append(out, objects.Change{Key: objects.Key{Kind: kind, Namespace: o.GetNamespace(), Name: o.GetName()}, Object: o})
	}
	for i := range pods {
		ns, app := fmt.Sprint("ns", i%namespaces), fmt.Sprint("app", i/10/namespaces)
		if i/namespaces%10 == 0 {
			add(objects.Service, &corev1.Service{
				ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: app},
				Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": app}, Ports: []corev1.ServicePort{{Port: 80}}},
			})
		}
		add(objects.Pod, testPod(ns, app, i, "10.0.0.1"))
	}
	return out
}

func testPod(ns, app string, i int, ip string) objects.Object {
	return objects.Trim(&corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: fmt.Sprint("pod", i), Labels: map[string]string{"app": app, "tier": "all"}},
		Spec:       corev1.PodSpec{NodeName: fmt.Sprint("node", i%100), ServiceAccountName: "default"},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning, PodIP: ip},
	})
}

// TestChangeCostsItsOwnWork: one pod's change makes one unit, however many pods there are, in one namespace or in many.
func TestChangeCostsItsOwnWork(t *testing.T) {
	for _, pods := range []int{100, 3000} {
		tr := New(Settings{})
		tr.Apply(cluster(pods, 1))
		o := testPod("ns0", "app0", 0, "10.0.0.2")
		key := objects.Key{Kind: objects.Pod, Namespace: "ns0", Name: "pod0"}
		tr.mark(key, o)
		if len(tr.dirty) != 1 {
			t.Errorf("%d pods: %d units to make for one pod's change", pods, len(tr.dirty))
		}
		if d := tr.Apply([]objects.Change{{Key: key, Object: o}}); len(d.Addresses) != 1 {
			t.Errorf("%d pods: %d addresses changed", pods, len(d.Addresses))
		}
	}
}

func BenchmarkOnePodChanges(b *testing.B) {
	for _, pods := range []int{2000, 30000} {
		b.Run(fmt.Sprint("pods=", pods), func(b *testing.B) {
			tr := New(Settings{})
			tr.Apply(cluster(pods, 1))
			key := objects.Key{Kind: objects.Pod, Namespace: "ns0", Name: "pod0"}
			for i := range b.N {
				tr.Apply([]objects.Change{{Key: key, Object: testPod("ns0", "app0", 0, fmt.Sprintf("10.0.1.%d", i%250))}})
			}
		})
	}
}

func BenchmarkStart(b *testing.B) {
	changes := cluster(30000, 10)
	for b.Loop() {
		tr := New(Settings{})
		tr.Apply(changes)
		runtime.KeepAlive(tr)
	}
}
