package dns

import (
	"strings"
	"testing"

	"github.com/ambit-mesh/ambit/ztunnel/state"
	"github.com/ambit-mesh/ambit/ztunnel/state/statetest"
)

// TestLookup replays testdata. The command is
//
//	ask name=name [type=A|AAAA] [ns=namespace] [network=network] [preferred=namespace]
func TestLookup(t *testing.T) {
	statetest.Run(t, "testdata/*.txt", func(t *testing.T, snap *state.Snapshot, command string, a *statetest.Args) string {
		if command != "ask" {
			t.Fatalf("unknown command %q", command)
		}
		names := Names{Domain: "cluster.local", Preferred: a.Get("preferred", "")}
		q := Question{Name: a.Get("name", ""), IPv6: a.Get("type", "A") == "AAAA", Namespace: a.Get("ns", "shop"), Network: a.Get("network", "")}
		answer := Lookup(snap, names, q, func(int) int { return 0 })
		out := answer.Outcome.String()
		if answer.Service != nil {
			out += " service=" + answer.Service.Key().String()
		}
		if answer.Alias != "" {
			out += " alias=" + answer.Alias
		}
		for _, ip := range answer.Addrs {
			out += " " + ip.String()
		}
		return out
	})
}

// FuzzLookup asks for anything at all.
func FuzzLookup(f *testing.F) {
	cfg := state.Config{}
	u, err := statetest.Parse(&cfg, []string{
		"workload web ip=10.0.0.1 svc=shop/db.shop.svc.cluster.local",
		"service shop/cart.shop.svc.cluster.local vip=10.9.0.1",
		"service shop/db.shop.svc.cluster.local",
		"service shop/*.example.com vip=10.9.0.2",
	})
	if err != nil {
		f.Fatal(err)
	}
	snap := state.NewStore(cfg).Apply(u)
	for _, seed := range []string{"cart", "cart.shop.svc.cluster.local", "x.example.com.shop.svc.cluster.local", ".", "..", strings.Repeat("a.", 200)} {
		f.Add(seed, "shop")
	}
	f.Fuzz(func(t *testing.T, name, namespace string) {
		a := Lookup(snap, Names{Domain: "cluster.local"}, Question{Name: name, Namespace: namespace}, func(n int) int { return n - 1 })
		if (a.Outcome == Found) != (len(a.Addrs) > 0) || (a.Outcome == Forward) != (a.Service == nil) {
			t.Fatalf("%q: %+v", name, a)
		}
	})
}
