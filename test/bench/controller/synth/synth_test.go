package synth

import (
	"testing"

	"github.com/ambit-mesh/ambit/controller/objects"
	"github.com/ambit-mesh/ambit/controller/translate"
)

// TestClusterIsWhatItSays: as many addresses and policies come of it as the benchmark waits for, without a name or an address
// twice, and a pod's change is one resource.
func TestClusterIsWhatItSays(t *testing.T) {
	c := Cluster{Pods: 2345, Nodes: 20}
	tr := translate.New(translate.Settings{})
	var all []objects.Change
	seen := map[objects.Key]bool{}
	ips := map[string]bool{}
	for ch := range c.Objects() {
		if seen[ch.Key] {
			t.Fatalf("%s twice", ch.Key)
		}
		seen[ch.Key] = true
		ch.Object = objects.Trim(ch.Object)
		all = append(all, ch)
	}
	addresses, policies := 0, 0
	tr.Update(all, func(o translate.Output) {
		if o.IsPolicy {
			policies++
			return
		}
		addresses++
		w := o.Address.GetWorkload()
		if w == nil {
			return
		}
		if len(w.Services) != 1 || w.Node == "" || ips[string(w.Addresses[0])] {
			t.Fatalf("workload %v", w)
		}
		ips[string(w.Addresses[0])] = true
	})
	if addresses != c.Addresses() || policies != Policies {
		t.Errorf("%d addresses and %d policies, want %d and %d", addresses, policies, c.Addresses(), Policies)
	}
	changed := 0
	p := objects.Trim(c.Pod(7, "v1"))
	tr.Update([]objects.Change{{Key: objects.Key{Kind: objects.Pod, Namespace: p.GetNamespace(), Name: p.GetName()}, Object: p}}, func(o translate.Output) {
		changed++
		if o.Address.GetWorkload().GetCanonicalRevision() != "v1" {
			t.Errorf("%v", o.Address)
		}
	})
	if changed != 1 {
		t.Errorf("one pod's change is %d resources", changed)
	}
}
