package pods

import "testing"

func TestSetFindsPods(t *testing.T) {
	k := Key{"shop", "web"}
	s := NewSet([]Pod{
		{UID: "b", Key: k, Deleting: true},
		{UID: "a", Key: Key{"shop", "cart"}, Phase: "Pending"},
		{UID: "c", Key: k},
		{UID: "a", Key: Key{"shop", "cart"}, Phase: "Running"},
	}, []Namespace{{Name: "shop", Labels: map[string]string{"x": "y"}}})
	if got := len(s.Pods()); got != 3 {
		t.Fatalf("%d pods, want 3", got)
	}
	if p, ok := s.ByUID("a"); !ok || p.Phase != "Running" {
		t.Errorf("by uid: %+v, %v; want the later one", p, ok)
	}
	if p, ok := s.ByKey(k); !ok || p.UID != "c" {
		t.Errorf("by key: %+v, %v; want the pod that is not being deleted", p, ok)
	}
	if _, ok := s.ByKey(Key{"shop", "none"}); ok {
		t.Error("found a pod that is not there")
	}
	if n, ok := s.Namespace("shop"); !ok || n.Labels["x"] != "y" {
		t.Errorf("namespace: %+v, %v", n, ok)
	}
	if _, ok := s.Namespace("none"); ok {
		t.Error("found a namespace that is not there")
	}
}
