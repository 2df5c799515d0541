package main

import (
	"net/netip"
	"strings"
	"testing"
)

// TestPlan: no two addresses or ranges of clusters that run side by side meet, and names fit.
func TestPlan(t *testing.T) {
	var all []netip.Prefix
	for _, number := range []int{0, 1, 99} {
		p, err := newPlan(number, 9, true)
		if err != nil {
			t.Fatal(err)
		}
		if link := p.name() + "-" + p.Nodes[8].Name; len(link) > 15 {
			t.Errorf("%s is too long for a link", link)
		}
		pods, ofNodes := strings.Split(p.podRange(), ","), map[netip.Prefix]bool{}
		ranges := append([]string{p.balancerRange(), p.gateway()[0] + "/32", p.gateway()[1] + "/128"}, pods...)
		for _, n := range p.Nodes {
			ranges = append(ranges, n.IPs[0]+"/32", n.IPs[1]+"/128")
			for family, r := range n.Ranges {
				if ofNodes[netip.MustParsePrefix(r)] {
					t.Errorf("%s is of two nodes", r)
				}
				ofNodes[netip.MustParsePrefix(r)] = true
				if !netip.MustParsePrefix(pods[family]).Contains(netip.MustParsePrefix(r).Addr()) {
					t.Errorf("%s is not of %s", r, pods[family])
				}
			}
		}
		for _, r := range append(ranges, strings.Split(p.serviceRange(), ",")...) {
			all = append(all, netip.MustParsePrefix(r))
		}
	}
	services := map[netip.Prefix]bool{netip.MustParsePrefix("10.96.0.0/16"): true, netip.MustParsePrefix("fd00:96::/112"): true}
	for i, a := range all {
		for _, b := range all[:i] {
			if a.Overlaps(b) && !(services[a] && a == b) { // services are never routed between clusters
				t.Errorf("%v meets %v", a, b)
			}
		}
	}
	for _, bad := range [][2]int{{-1, 2}, {100, 2}, {0, 0}, {0, 10}} {
		if _, err := newPlan(bad[0], bad[1], false); err == nil {
			t.Errorf("plan of %v: no error", bad)
		}
	}
}

// TestAssign: every LoadBalancer has an address of its own and keeps it; what is over is told.
func TestAssign(t *testing.T) {
	lb := func(name, address string) service {
		var s service
		s.Metadata.Name, s.Spec.Type = name, "LoadBalancer"
		if address != "" {
			s.Status.LoadBalancer.Ingress = []struct{ IP string }{{address}}
		}
		return s
	}
	plan, _ := newPlan(3, 1, false)
	internal := service{}
	given, err := assign([]service{lb("a", ""), lb("b", "10.98.3.1"), internal, lb("c", ""), lb("d", "10.98.3.3")}, plan.balancerAddress)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for s, address := range given {
		got[s.Metadata.Name] = address
	}
	if len(got) != 2 || got["a"] != "10.98.3.2" || got["c"] != "10.98.3.4" {
		t.Errorf("given %v", got)
	}
	var many []service
	for range 300 {
		many = append(many, lb("x", ""))
	}
	if given, err := assign(many, plan.balancerAddress); err == nil || len(given) != 254 {
		t.Errorf("%d of 300 were given an address, error %v", len(given), err)
	}
}

// TestHierarchies: what a node mounts as its own control groups is what the machine has.
func TestHierarchies(t *testing.T) {
	got := hierarchies(`tmpfs /sys/fs/cgroup tmpfs rw,relatime,mode=755 0 0
cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,nosuid,relatime,cpu,cpuacct 0 0
cgroup /sys/fs/cgroup/systemd cgroup rw,relatime,xattr,release_agent=/x,name=systemd 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime,nsdelegate 0 0
cgroup2 /run/elsewhere cgroup2 rw 0 0
short line
`)
	want := []hierarchy{
		{"/sys/fs/cgroup/cpu,cpuacct", "cgroup", "cpu,cpuacct"},
		{"/sys/fs/cgroup/systemd", "cgroup", "none,name=systemd"},
		{"/sys/fs/cgroup/unified", "cgroup2", ""},
	}
	if len(got) != len(want) {
		t.Fatalf("got %v", got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("got %v, want %v", got[i], want[i])
		}
	}
}
