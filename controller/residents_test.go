package controller

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/ambit-mesh/ambit/controller/objects"
)

func podChange(namespace, name, uid, node, account string, phase corev1.PodPhase) objects.Change {
	return objects.Change{
		Key: objects.Key{Kind: objects.Pod, Namespace: namespace, Name: name},
		Object: &objects.CompactPod{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID(uid)},
			NodeName:   node, ServiceAccountName: account, Phase: phase,
		},
	}
}

func TestResidents(t *testing.T) {
	r := newResidents([]string{"ambit-system/ambit-ztunnel"})
	apply := func(c ...objects.Change) { r.apply(c) }
	runs := func(want bool, node, account string) {
		t.Helper()
		if got := r.Runs(node, "shop", account); got != want {
			t.Errorf("%s on %q: %v", account, node, got)
		}
	}
	proxyAt := func(wantNode string, want bool, account, pod, uid string) {
		t.Helper()
		if node, ok := r.Proxy("ambit-system", account, pod, uid); node != wantNode || ok != want {
			t.Errorf("proxy %s %s %s: %q %v", account, pod, uid, node, ok)
		}
	}

	apply(podChange("shop", "a", "1", "n1", "web", corev1.PodRunning), podChange("shop", "b", "2", "n1", "web", corev1.PodPending))
	runs(true, "n1", "web")
	runs(false, "n2", "web")
	runs(false, "", "web")
	apply(podChange("shop", "a", "1", "n1", "web", corev1.PodSucceeded)) // one of two has ended
	runs(true, "n1", "web")
	apply(podChange("shop", "b", "2", "n1", "web", corev1.PodFailed))
	runs(false, "n1", "web")
	apply(podChange("shop", "a", "3", "n2", "", corev1.PodRunning)) // the name again, another pod
	runs(true, "n2", "default")
	apply(podChange("shop", "c", "4", "", "web", corev1.PodPending)) // not scheduled
	runs(false, "", "web")
	apply(objects.Change{Key: objects.Key{Kind: objects.Pod, Namespace: "shop", Name: "a"}})
	runs(false, "n2", "default")

	apply(podChange("ambit-system", "z", "u1", "n1", "ambit-ztunnel", corev1.PodRunning), podChange("ambit-system", "other", "u9", "n1", "other", corev1.PodRunning))
	proxyAt("n1", true, "ambit-ztunnel", "z", "u1")
	proxyAt("", false, "ambit-ztunnel", "z", "u2")
	proxyAt("", false, "ambit-ztunnel", "z", "")
	proxyAt("", false, "other", "z", "u1")
	proxyAt("", false, "other", "other", "u9") // not a node proxy's account
	apply(podChange("ambit-system", "z", "u2", "", "ambit-ztunnel", corev1.PodPending))
	proxyAt("", false, "ambit-ztunnel", "z", "u1") // its successor has the name
	proxyAt("", true, "ambit-ztunnel", "z", "u2")  // without a node yet
	apply(podChange("ambit-system", "z", "u2", "n1", "ambit-ztunnel", corev1.PodFailed))
	proxyAt("", false, "ambit-ztunnel", "z", "u2")

	apply(objects.Change{Key: objects.Key{Kind: objects.Pod, Namespace: "ambit-system", Name: "other"}}, objects.Change{Key: objects.Key{Kind: objects.Pod, Namespace: "shop", Name: "c"}})
	if len(r.pods)+len(r.places)+len(r.proxies) > 0 {
		t.Errorf("left behind: %v %v %v", r.pods, r.places, r.proxies)
	}
}
