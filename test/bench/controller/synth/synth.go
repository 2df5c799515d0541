// Package synth answers what a cluster of a given size looks like: the objects that an API server would hold of it, as a user
// or a controller of Kubernetes would have written them, with what the mesh does not read as well.
//
// It is pure: the same size gives the same objects. The benchmark's source delivers them, or writes them to an API server.
package synth

import (
	"fmt"
	"iter"
	"net/netip"

	securityapi "istio.io/api/security/v1beta1"
	typeapi "istio.io/api/type/v1beta1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/ambit-mesh/ambit/controller/objects"
)

const (
	perService   = 10
	perNamespace = 200
	// Policies is how many AuthorizationPolicies there are.
	Policies = 200
	// Revision is the label that a change of a pod changes: nodes see it as the workload's canonical revision.
	Revision = "service.istio.io/canonical-revision"
)

// Cluster is a size.
type Cluster struct{ Pods, Nodes int }

// Addresses is how many workloads and services come of it.
func (c Cluster) Addresses() int { return c.Pods + c.services() }

func (c Cluster) services() int   { return (c.Pods + perService - 1) / perService }
func (c Cluster) namespaces() int { return (c.Pods + perNamespace - 1) / perNamespace }

// Node is the name of a node.
func Node(i int) string { return fmt.Sprintf("node-%d.example.internal", i) }

// Objects are all objects, what others refer to first.
func (c Cluster) Objects() iter.Seq[objects.Change] {
	return func(yield func(objects.Change) bool) {
		add := func(kind objects.Kind, o objects.Object) bool {
			return yield(objects.Change{Key: objects.Key{Kind: kind, Namespace: o.GetNamespace(), Name: o.GetName()}, Object: o})
		}
		for _, name := range []string{"istio-system"} {
			if !add(objects.Namespace, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}) {
				return
			}
		}
		for i := range c.namespaces() {
			if !add(objects.Namespace, namespace(i)) {
				return
			}
		}
		for i := range c.Nodes {
			if !add(objects.Node, node(i)) {
				return
			}
		}
		for i := range Policies {
			if !add(objects.AuthorizationPolicy, c.policy(i)) {
				return
			}
		}
		for i := range c.services() {
			if !add(objects.ServiceAccount, c.account(i)) || !add(objects.Service, c.service(i)) || !add(objects.EndpointSlice, c.slice(i)) {
				return
			}
		}
		for i := range c.Pods {
			if !add(objects.Pod, c.Pod(i, "v0")) {
				return
			}
		}
	}
}

func namespace(i int) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name:   fmt.Sprintf("team-%d", i),
		Labels: map[string]string{"kubernetes.io/metadata.name": fmt.Sprintf("team-%d", i), "istio.io/dataplane-mode": "ambient"},
	}}
}

func node(i int) *corev1.Node {
	name := Node(i)
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{
			"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "topology.kubernetes.io/region": "region-1",
			"topology.kubernetes.io/zone": fmt.Sprintf("region-1-%c", 'a'+i%3),
		}},
		Status: corev1.NodeStatus{NodeInfo: corev1.NodeSystemInfo{KernelVersion: "6.12.0", ContainerRuntimeVersion: "containerd://2.1.0"}},
	}
}

// app is the name of the service, deployment and account of pod i, and their namespace.
func (c Cluster) app(service int) (namespace, name string) {
	return fmt.Sprintf("team-%d", service*perService/perNamespace), fmt.Sprintf("app-%d", service)
}

func (c Cluster) account(i int) *corev1.ServiceAccount {
	ns, name := c.app(i)
	return &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}}
}

func (c Cluster) service(i int) *corev1.Service {
	ns, name := c.app(i)
	ip := address(netip.MustParseAddr("10.96.0.10"), i)
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: ns, Name: name, Labels: map[string]string{"app": name},
			Annotations: map[string]string{"kubectl.kubernetes.io/last-applied-configuration": "{\"apiVersion\":\"v1\",\"kind\":\"Service\"}"},
		},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": name}, Type: corev1.ServiceTypeClusterIP, ClusterIP: ip, ClusterIPs: []string{ip},
			IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
			Ports: []corev1.ServicePort{
				{Name: "http", Port: 80, TargetPort: intstr.FromString("http"), Protocol: corev1.ProtocolTCP},
				{Name: "grpc", Port: 9090, TargetPort: intstr.FromInt32(9090), Protocol: corev1.ProtocolTCP},
			},
		},
	}
}

// slice is what Kubernetes' own controller writes for a service.
func (c Cluster) slice(i int) *discoveryv1.EndpointSlice {
	ns, name := c.app(i)
	out := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: ns, Name: name + "-x7k2p", GenerateName: name + "-",
			Labels: map[string]string{discoveryv1.LabelServiceName: name, discoveryv1.LabelManagedBy: "endpointslice-controller.k8s.io", "app": name},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports: []discoveryv1.EndpointPort{
			{Name: ref("http"), Port: ref[int32](8080), Protocol: ref(corev1.ProtocolTCP)},
			{Name: ref("grpc"), Port: ref[int32](9090), Protocol: ref(corev1.ProtocolTCP)},
		},
	}
	for p := i * perService; p < min((i+1)*perService, c.Pods); p++ {
		out.Endpoints = append(out.Endpoints, discoveryv1.Endpoint{
			Addresses:  []string{podAddress(p)},
			Conditions: discoveryv1.EndpointConditions{Ready: ref(true), Serving: ref(true), Terminating: ref(false)},
			NodeName:   ref(Node(p % c.Nodes)),
			Zone:       ref(fmt.Sprintf("region-1-%c", 'a'+p%c.Nodes%3)),
			TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: ns, Name: c.podName(p), UID: podUID(p)},
		})
	}
	return out
}

// policy is one of several kinds: most select the pods of one application, some hold for a namespace, a few for the mesh.
func (c Cluster) policy(i int) *securityv1.AuthorizationPolicy {
	ns, app := c.app(i * 7 % c.services())
	out := &securityv1.AuthorizationPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: fmt.Sprintf("policy-%d", i)}}
	out.Spec.Rules = []*securityapi.Rule{{
		From: []*securityapi.Rule_From{{Source: &securityapi.Source{Principals: []string{
			"cluster.local/ns/" + ns + "/sa/" + app, "cluster.local/ns/istio-system/sa/gateway",
		}}}},
		To: []*securityapi.Rule_To{{Operation: &securityapi.Operation{Ports: []string{"8080", "9090"}}}},
	}}
	switch {
	case i%20 == 0:
		out.Namespace = "istio-system"
		out.Spec.Selector = &typeapi.WorkloadSelector{MatchLabels: map[string]string{"app": app}}
	case i%10 == 1:
		out.Spec.Rules[0].From[0].Source = &securityapi.Source{Namespaces: []string{ns, "istio-system"}}
	default:
		out.Spec.Selector = &typeapi.WorkloadSelector{MatchLabels: map[string]string{"app": app}}
	}
	return out
}

// PodName is the namespace and name of pod i.
func (c Cluster) PodName(i int) (namespace, name string) {
	namespace, _ = c.app(i / perService)
	return namespace, c.podName(i)
}

func (c Cluster) podName(i int) string {
	return fmt.Sprintf("app-%d-%s-%s", i/perService, hash(i/perService), podSuffix(i))
}

func podSuffix(i int) string {
	const letters = "bcdfghjklmnpqrstvwxz2456789"
	b := make([]byte, 5)
	for j, n := 0, uint64(i)*2654435761; j < len(b); j++ {
		b[j] = letters[n%uint64(len(letters))]
		n = n/uint64(len(letters)) + uint64(i)
	}
	return fmt.Sprintf("%s%d", b[:4], i%perService)
}

func hash(service int) string { return fmt.Sprintf("%09x", uint32(service)*2246822519) }

func podUID(i int) types.UID {
	return types.UID(fmt.Sprintf("%08x-5a1e-4d2c-9b3f-%012x", i, i*31))
}

func podAddress(i int) string { return address(netip.MustParseAddr("10.128.0.1"), i) }

func address(base netip.Addr, i int) string {
	b := base.As4()
	n := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3]) + uint32(i)
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}).String()
}

func ref[T any](v T) *T { return &v }
