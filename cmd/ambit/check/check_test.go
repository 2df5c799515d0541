package check

import (
	"context"
	"errors"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

func TestJudge(t *testing.T) {
	ambient := map[string]string{"istio.io/dataplane-mode": "ambient"}
	for name, test := range map[string]struct {
		facts facts
		must  bool
		want  string // in a finding; "": none
	}{
		"all is well": {facts{
			nodes: []node{{"n1", "linux", "6.12.9-amd64"}, {"n2", "linux", "6.1.0"}}, resources: definitions,
			daemonSets: []string{"kube-system/kube-proxy"}, namespaces: []namespace{{"shop", ambient, nil}},
		}, false, ""},
		"old kernel":            {facts{nodes: []node{{"n1", "linux", "5.4.0-100-generic"}}}, true, "n1 has Linux 5.4.0"},
		"much older":            {facts{nodes: []node{{"n1", "linux", "4.18.0"}}}, true, "5.15 or newer"},
		"untried kernel":        {facts{nodes: []node{{"n1", "linux", "5.15.0-1"}}}, false, "have been tried"},
		"kernel of no number":   {facts{nodes: []node{{"n1", "linux", "mine"}}}, false, `"mine"`},
		"windows":               {facts{nodes: []node{{"w1", "windows", "10.0"}}}, false, "runs windows"},
		"no definitions":        {facts{resources: []string{"pods."}}, false, "httproutes.gateway.networking.k8s.io is not installed"},
		"istio":                 {facts{daemonSets: []string{"istio-system/istio-cni-node"}}, false, "another mesh"},
		"two meshes":            {facts{namespaces: []namespace{{"shop", map[string]string{"istio.io/dataplane-mode": "ambient", "istio-injection": "enabled"}, nil}}}, false, "shop asks for this mesh and for sidecars"},
		"linkerd too":           {facts{namespaces: []namespace{{"shop", ambient, map[string]string{"linkerd.io/inject": "enabled"}}}}, false, "sidecars"},
		"sidecars alone":        {facts{namespaces: []namespace{{"shop", map[string]string{"istio-injection": "enabled"}, nil}}}, false, ""},
		"cilium balances":       {facts{cilium: map[string]string{"kube-proxy-replacement": "true", "cni-exclusive": "false"}}, true, "hostNamespaceOnly"},
		"cilium for hosts only": {facts{cilium: map[string]string{"kube-proxy-replacement": "true", "bpf-lb-sock-hostns-only": "true", "cni-exclusive": "false"}}, false, ""},
		"cilium alone":          {facts{cilium: map[string]string{"cni-exclusive": "true"}}, true, "cni.exclusive=false"},
		"no image":              {facts{own: []container{{"a/b", "ImagePullBackOff", "not found"}}}, true, "imagePullSecrets"},
		"it ended":              {facts{own: []container{{"a/b", "CrashLoopBackOff", "no BTF\x1b[2J"}}}, true, "no BTF [2J"},
		"a node complains":      {facts{complaints: []string{"node n1: MeshNoZtunnel: x"}}, false, "MeshNoZtunnel"},
		"may not":               {facts{unread: []string{"nodes cannot be read: forbidden"}}, false, "forbidden"},
	} {
		list := judge(test.facts)
		if len(list) == 0 != (test.want == "") {
			t.Errorf("%s: %+v", name, list)
			continue
		}
		found := test.want == ""
		for _, f := range list {
			found = found || f.must == test.must && strings.Contains(f.what+" "+f.do, test.want)
			if f.what == "" || f.do == "" {
				t.Errorf("%s: %+v", name, f)
			}
		}
		if !found {
			t.Errorf("%s: %+v, want %q", name, list, test.want)
		}
	}
}

func TestRead(t *testing.T) {
	pod := func(name string, status corev1.PodStatus) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "mesh", Name: name, Labels: map[string]string{"app.kubernetes.io/part-of": "ambit"}}, Status: status}
	}
	waiting := func(reason, message, last string) corev1.PodStatus {
		s := corev1.ContainerStatus{State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}}
		if last != "" {
			s.LastTerminationState.Terminated = &corev1.ContainerStateTerminated{Message: last}
		}
		return corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{s}}
	}
	event := func(name, by, message string, at int64) *corev1.Event {
		return &corev1.Event{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, InvolvedObject: corev1.ObjectReference{Kind: "Node", Name: "n1"},
			Source: corev1.EventSource{Component: by}, Reason: "MeshNoZtunnel", Message: message, LastTimestamp: metav1.Unix(at, 0),
		}
	}
	c := fake.NewClientset(
		&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Status: corev1.NodeStatus{NodeInfo: corev1.NodeSystemInfo{OperatingSystem: "linux", KernelVersion: "5.4.1"}}},
		&appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: "istio-cni-node"}},
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", Labels: map[string]string{"istio.io/dataplane-mode": "ambient"}}},
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "cilium-config"}, Data: map[string]string{"bpf-lb-sock": "true"}},
		pod("ambit-ztunnel-a", waiting("ImagePullBackOff", "no such image", "")), pod("ambit-agent-a", waiting("CrashLoopBackOff", "back-off", "agent: no BTF")),
		pod("ambit-agent-b", waiting("ContainerCreating", "", "")),
		pod("ambit-controller-a", corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable", Message: "0/1 nodes"}}}),
		event("e1", "ambit-agent", "old", 1), event("e2", "ambit-agent", "new", 2), event("e3", "kubelet", "another's", 3),
	)
	f, err := read(context.Background(), c, "mesh")
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	err = print(&said, f, judge(f))
	if err == nil || err.Error() != "6 problems" {
		t.Errorf("%v", err)
	}
	for _, want := range []string{
		"node n1 has Linux 5.4.1", "istio-system/istio-cni-node", "mesh/ambit-ztunnel-a: ImagePullBackOff: no such image", "CrashLoopBackOff: agent: no BTF",
		"Unschedulable: 0/1 nodes", "Cilium balances", "MeshNoZtunnel: new",
	} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("no %q in\n%s", want, said.String())
		}
	}
	for _, not := range []string{"ambit-agent-b", "another's", ": old"} {
		if strings.Contains(said.String(), not) {
			t.Errorf("%q in\n%s", not, said.String())
		}
	}
	if strings.LastIndex(said.String(), "PROBLEM") > strings.Index(said.String(), "note ") {
		t.Errorf("problems do not come first:\n%s", said.String())
	}
}

// What the user may not read is said, and the rest is judged.
func TestReadWithFewRights(t *testing.T) {
	c := fake.NewClientset(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}})
	c.PrependReactor("list", "nodes", func(clienttesting.Action) (bool, runtime.Object, error) { return true, nil, errors.New("forbidden") })
	f, err := read(context.Background(), c, "mesh")
	if err != nil || len(f.namespaces) != 1 || len(f.unread) != 1 || !strings.Contains(f.unread[0], "nodes cannot be read: forbidden") {
		t.Errorf("%+v, %v", f, err)
	}
}
