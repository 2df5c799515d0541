package objects

import (
	"encoding/json"
	"maps"
	"net/netip"
	"reflect"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

const podYAML = `
metadata:
  name: web-1
  namespace: shop
  generateName: web-7f-
  uid: u1
  resourceVersion: "7"
  labels: {app: web, pod-template-hash: 7f}
  annotations:
    ambient.istio.io/redirection: enabled
    sidecar.istio.io/status: a long text
    cni.example/status: another
  managedFields: [{manager: m}]
  finalizers: [f]
  ownerReferences:
  - {apiVersion: v1, kind: Other, name: o, uid: u}
  - {apiVersion: apps/v1, kind: ReplicaSet, name: web-7f, uid: u, controller: true}
spec:
  nodeName: n1
  serviceAccountName: sa
  containers:
  - name: a
    image: big
    env: [{name: A, value: B}]
    ports: [{name: http, containerPort: 80}, {name: dns, containerPort: 53, protocol: UDP}, {containerPort: 9}, {name: bad, containerPort: 70000}]
  initContainers:
  - {name: once, ports: [{name: x, containerPort: 1}]}
  - {name: stays, restartPolicy: Always, ports: [{name: side, containerPort: 81}]}
status:
  phase: Running
  podIPs: [{ip: 10.0.0.1}, {ip: "fd00::1"}, {ip: nonsense}]
  conditions: [{type: Initialized, status: "True"}, {type: Ready, status: "True"}]
`

func decode[T any](t *testing.T, text string) *T {
	t.Helper()
	out := new(T)
	if err := yaml.UnmarshalStrict([]byte(text), out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestTrimPod(t *testing.T) {
	got := Trim(decode[corev1.Pod](t, podYAML)).(*CompactPod)
	want := &CompactPod{
		ObjectMeta: metav1.ObjectMeta{
			Name: "web-1", Namespace: "shop", GenerateName: "web-7f-", UID: "u1", ResourceVersion: "7",
			Labels:      map[string]string{"app": "web", "pod-template-hash": "7f"},
			Annotations: map[string]string{"ambient.istio.io/redirection": "enabled"},
		},
		NodeName: "n1", ServiceAccountName: "sa", Phase: corev1.PodRunning, Owner: Owner{"ReplicaSet", "web-7f"}, Ready: true,
		IPs:   []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")},
		Ports: []NamedPort{{"http", 80}, {"side", 81}},
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
	if Trim(got) != Object(got) {
		t.Error("a compact pod was trimmed again")
	}
}

func TestTrimSlice(t *testing.T) {
	got := Trim(decode[discoveryv1.EndpointSlice](t, `
metadata: {name: s, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 80}, {name: u, port: 53, protocol: UDP}, {port: 9}, {name: any}]
endpoints:
- {addresses: [10.0.0.1], targetRef: {kind: Pod, name: web-1, uid: u1}, nodeName: n1, zone: z}
- {addresses: [10.0.0.2], targetRef: {kind: Pod, name: web-2, namespace: other}, conditions: {ready: false}}
- {addresses: [192.0.2.1, nonsense], conditions: {ready: true}}
`)).(*CompactSlice)
	want := &CompactSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: "s", Namespace: "shop", Labels: map[string]string{"kubernetes.io/service-name": "web"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []NamedPort{{"http", 80}, {"", 9}},
		Endpoints: []CompactEndpoint{
			{Pod: "web-1", PodUID: "u1"},
			{Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.2")}, NotReady: true},
			{Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}},
		},
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
}

// TestTrimService: what is read stays, with the generation that conditions are written for, and nothing of what was decoded is held
// or changed.
func TestTrimService(t *testing.T) {
	in := decode[corev1.Service](t, `
metadata:
  name: web
  namespace: shop
  uid: u1
  resourceVersion: "7"
  generation: 3
  labels: {app: web, istio.io/use-waypoint: w}
  annotations: {networking.istio.io/traffic-distribution: PreferClose, meta.helm.sh/release-name: long}
  finalizers: [f]
  ownerReferences: [{apiVersion: v1, kind: Other, name: o, uid: u}]
  managedFields: [{manager: m}]
spec:
  type: LoadBalancer
  selector: {app: web}
  clusterIP: 10.0.0.1
  clusterIPs: [10.0.0.1, "fd00::1"]
  ipFamilies: [IPv4, IPv6]
  ipFamilyPolicy: PreferDualStack
  externalIPs: [192.0.2.1]
  sessionAffinity: ClientIP
  healthCheckNodePort: 30000
  internalTrafficPolicy: Local
  trafficDistribution: PreferSameZone
  publishNotReadyAddresses: true
  ports:
  - {name: http, port: 80, targetPort: web, protocol: TCP, appProtocol: kubernetes.io/h2c, nodePort: 30001}
  - {name: dns, port: 53, targetPort: 5353, protocol: UDP}
status:
  loadBalancer: {ingress: [{ip: 192.0.2.1}]}
  conditions: [{type: Other, status: "True", reason: r, message: m, lastTransitionTime: "2026-01-02T03:04:05Z"}]
`)
	before := in.DeepCopy()
	got := Trim(in).(*corev1.Service)
	want := decode[corev1.Service](t, `
metadata:
  {name: web, namespace: shop, uid: u1, resourceVersion: "7", generation: 3, labels: {app: web, istio.io/use-waypoint: w}, annotations: {networking.istio.io/traffic-distribution: PreferClose}}
spec:
  type: LoadBalancer
  selector: {app: web}
  clusterIP: 10.0.0.1
  clusterIPs: [10.0.0.1, "fd00::1"]
  ipFamilies: [IPv4, IPv6]
  internalTrafficPolicy: Local
  trafficDistribution: PreferSameZone
  publishNotReadyAddresses: true
  ports: [{name: http, port: 80, targetPort: web, protocol: TCP, appProtocol: kubernetes.io/h2c}, {name: dns, port: 53, targetPort: 5353, protocol: UDP}]
`)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(before, in); diff != "" {
		t.Error("what was decoded was changed", diff)
	}
	if diff := cmp.Diff(got, Trim(got)); diff != "" {
		t.Error("trimmed again it says something else", diff)
	}
	if again := Trim(in).(*corev1.Service); reflect.ValueOf(again.Spec.Selector).Pointer() != reflect.ValueOf(got.Spec.Selector).Pointer() {
		t.Error("selectors are kept twice")
	}
}

// TestTrimShares: replicas have one copy of what they have in common.
func TestTrimShares(t *testing.T) {
	a, b := Trim(decode[corev1.Pod](t, podYAML)).(*CompactPod), Trim(decode[corev1.Pod](t, podYAML)).(*CompactPod)
	if reflect.ValueOf(a.Labels).Pointer() != reflect.ValueOf(b.Labels).Pointer() {
		t.Error("labels are kept twice")
	}
	if unsafe.StringData(a.NodeName) != unsafe.StringData(b.NodeName) || unsafe.SliceData(a.Ports) != unsafe.SliceData(b.Ports) {
		t.Error("node name or ports are kept twice")
	}
}

// TestInformersTakeCompact: what an informer does with objects works, and a copy shares nothing that could be changed.
func TestInformersTakeCompact(t *testing.T) {
	p := Trim(decode[corev1.Pod](t, podYAML)).(*CompactPod)
	m, err := meta.Accessor(any(p))
	if err != nil || m.GetName() != "web-1" || m.GetNamespace() != "shop" || m.GetResourceVersion() != "7" {
		t.Fatalf("%v %v", m, err)
	}
	c := p.DeepCopyObject().(*CompactPod)
	c.Labels["app"] = "changed"
	c.Ports[0].Number = 1
	c.IPs[0] = netip.Addr{}
	if p.Labels["app"] != "web" || p.Ports[0].Number != 80 || !p.IPs[0].IsValid() {
		t.Error("the copy changed the original")
	}
}

// TestPoolIsBounded: hostile variety costs sharing, not memory.
func TestPoolIsBounded(t *testing.T) {
	var p pool[string]
	for i := range 3 * maxShared {
		s := string(appendText(nil, "x")) + string(rune(i))
		if got := p.get([]byte(s), func() string { return s }); got != s {
			t.Fatalf("%q became %q", s, got)
		}
		if len(p.seen) > maxShared {
			t.Fatal("the pool outgrew its bound")
		}
	}
}

// FuzzTrimPod: the fields that selectors and identities depend on survive, whatever else a pod says.
func FuzzTrimPod(f *testing.F) {
	for _, text := range []string{podYAML, "status: {podIP: 10.0.0.9}", "spec: {containers: [{ports: [{name: a, containerPort: -1}]}]}"} {
		data, err := yaml.YAMLToJSON([]byte(text))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var p corev1.Pod
		if json.Unmarshal(data, &p) != nil {
			return
		}
		in := p.DeepCopy()
		out := Trim(&p).(*CompactPod)
		if out.Name != in.Name || out.Namespace != in.Namespace || out.UID != in.UID || !maps.Equal(out.Labels, in.Labels) ||
			out.NodeName != in.Spec.NodeName || out.ServiceAccountName != in.Spec.ServiceAccountName || out.HostNetwork != in.Spec.HostNetwork {
			t.Fatalf("%+v became %+v", in, out)
		}
		for _, ip := range out.IPs {
			if !ip.IsValid() || ip.Zone() != "" || ip.Is4In6() {
				t.Fatalf("address %v", ip)
			}
		}
	})
}
