package route

import (
	"net/netip"
	"testing"

	"github.com/ambit-mesh/ambit/ztunnel/state"
	"github.com/ambit-mesh/ambit/ztunnel/state/statetest"
)

// FuzzArrive sends any authority: what is admitted goes to the dialled pod and to no port of the mesh.
func FuzzArrive(f *testing.F) {
	cfg := state.Config{}
	u, err := statetest.Parse(&cfg, []string{
		"workload cart ip=10.0.0.2 svc=shop/cart.local:80>8080",
		"workload wp ip=10.0.0.3 svc=shop/wp.local:15008>15008",
		"service shop/cart.local vip=10.9.0.1 ports=80 waypoint=shop/wp.local:15008",
		"service shop/wp.local ports=15008",
	})
	if err != nil {
		f.Fatal(err)
	}
	snap := state.NewStore(cfg).Apply(u)
	for _, s := range []string{"10.0.0.2:80", "cart.local:80", "[::1]:1", "[fe80::1%eth0]:1", ":80", "a:b:c", "10.9.0.1:80", "10.0.0.2:15008", "\x00:1"} {
		f.Add(s, true)
		f.Add(s, false)
	}
	f.Fuzz(func(t *testing.T, authority string, waypoint bool) {
		a := Arrival{Workload: uid("cart"), Dialled: netip.MustParseAddrPort("10.0.0.2:15008"), Authority: authority}
		if waypoint {
			a.Workload, a.Dialled = uid("wp"), netip.MustParseAddrPort("10.0.0.3:15008")
		}
		e := ResolveInbound(snap, a)
		if e.Status == 0 && (e.Target.Addr() != a.Dialled.Addr() || meshPort(e.Target.Port()) || e.Target.Port() == 0 || e.Connect != e.Target) {
			t.Fatalf("%q: %+v", authority, e)
		}
		if e.Status != 0 && (e.Target.IsValid() || e.Connect.IsValid()) {
			t.Fatalf("%q: refused with a target: %+v", authority, e)
		}
	})
}
