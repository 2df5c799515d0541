package netlab

import (
	"net/netip"
	"testing"
)

// No two nodes share an address or a pod network, every pod network lies in the cluster's, no Service address twice.
func TestPlanGivesNothingTwice(t *testing.T) {
	seen := map[string]bool{}
	once := func(what string) {
		t.Helper()
		if seen[what] {
			t.Errorf("%s was given twice", what)
		}
		seen[what] = true
	}
	inside := func(addr netip.Addr, ranges []string) {
		t.Helper()
		for _, r := range ranges {
			if netip.MustParsePrefix(r).Contains(addr) {
				return
			}
		}
		t.Errorf("%s is not in %v", addr, ranges)
	}
	for i := range 100 {
		node := planNode(i, "n")
		for f, ip := range node.IPs {
			once(ip.String())
			if ip.Is4() != (f == 0) || node.PodNets[f].Addr().Is4() != (f == 0) {
				t.Errorf("node %d: IPv4 is not first: %+v", i, node)
			}
		}
		for _, net := range node.PodNets {
			once(net.String())
			inside(net.Addr(), PodNetworks())
		}
	}
	for n := 1; n <= 10_000; n++ {
		for _, ip := range serviceIPs(n) {
			once(ip)
			inside(netip.MustParseAddr(ip), ServiceNetworks())
		}
	}
}

func TestMerge(t *testing.T) {
	got := merge(map[string]string{"a": "1", "b": "2"}, map[string]string{"b": "", "c": "3"})
	if len(got) != 2 || got["a"] != "1" || got["c"] != "3" {
		t.Errorf("%v", got)
	}
}
