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

// TestStatusCostsItsOwnWork: a condition that is written makes the object's own unit, not those of all that depend on it.
func TestStatusCostsItsOwnWork(t *testing.T) {
	const world = `
{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: w, namespace: shop, labels: {istio.io/waypoint-for: all}}, spec: {gatewayClassName: istio-waypoint, listeners: [{name: m, port: 15008, protocol: HBONE}]}, status: {addresses: [{type: IPAddress, value: 10.96.9.1}], conditions: [{type: Accepted, status: "%[1]s", reason: R, message: "", lastTransitionTime: null}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: s, namespace: shop}, spec: {selector: {app: a}, clusterIP: 10.96.0.1, ports: [{port: 80}]}, status: {conditions: [{type: X, status: "%[1]s", reason: R, message: "", lastTransitionTime: null}]}}
---
{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: p, namespace: shop}, spec: {selector: {matchLabels: {app: a}}, rules: [{}]}, status: {conditions: [{type: X, status: "%[1]s"}]}}
---
{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: p, namespace: istio-system}, spec: {mtls: {mode: STRICT}}, status: {conditions: [{type: X, status: "%[1]s"}]}}
---
{apiVersion: gateway.networking.k8s.io/v1, kind: GatewayClass, metadata: {name: istio-waypoint}, spec: {controllerName: istio.io/mesh-controller}, status: {conditions: [{type: X, status: "%[1]s", reason: R, message: "", lastTransitionTime: null}]}}
---
{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: e, namespace: shop}, spec: {hosts: [e.example], resolution: STATIC, workloadSelector: {labels: {app: a}}, ports: [{number: 80, name: http}]}, status: {conditions: [{type: X, status: "%[1]s"}]}}
---
{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: r, namespace: shop}, spec: {parentRefs: [{name: w}]}, status: {parents: [{parentRef: {name: "%[1]s"}, controllerName: a.b/c}]}}
`
	tr := New(Settings{})
	tr.Apply(parse(t, "world", fmt.Appendf(nil, world, "True")))
	tr.Apply(parse(t, "space", []byte("{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {istio.io/use-waypoint: w}}}")))
	for i := range 20 {
		tr.Apply([]objects.Change{{Key: objects.Key{Kind: objects.Pod, Namespace: "shop", Name: fmt.Sprint("pod", i)}, Object: testPod("shop", "a", i, "10.0.0.1")}})
	}
	for _, c := range parse(t, "world", fmt.Appendf(nil, world, "False")) {
		tr.put(c)
		if !tr.dirty.has(c.Key) || len(tr.dirty) != 1 {
			t.Errorf("%s: %d units to make for its status", c.Key, len(tr.dirty))
		}
		clear(tr.dirty)
	}
}

// TestPopularHostCostsItsOwnWork: of thousands of namespaces with an entry for the same host, one's change is nothing to the
// others but to the one that all the mesh sees.
func TestPopularHostCostsItsOwnWork(t *testing.T) {
	tr := New(Settings{})
	doc := func(i int, port int) []objects.Change {
		return parse(t, "entry", fmt.Appendf(nil, "{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: e, namespace: ns%d, creationTimestamp: \"2024-01-01T00:00:%02dZ\"}, spec: {hosts: [popular.example], resolution: DNS, ports: [{number: %d, name: tcp}]}}", i, i%60, port))
	}
	for i := range 300 {
		tr.Apply(doc(i, 80))
	}
	for _, c := range doc(77, 81) {
		tr.put(c)
	}
	if len(tr.dirty) != 2 {
		t.Errorf("%d units to make for one entry's change", len(tr.dirty))
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
