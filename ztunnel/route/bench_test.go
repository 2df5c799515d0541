package route

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/ambit-mesh/ambit/ztunnel/state"
)

// TestChoiceFollowsWeights draws often and compares with the weights, and asks that Avoid is kept.
func TestChoiceFollowsWeights(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	t1 := tier{}
	sum := 0
	for i := range 20 {
		sum += i + 1
		t1.endpoints = append(t1.endpoints, &state.Workload{UID: fmt.Sprint(i), Capacity: uint32(i + 1)})
		t1.sums = append(t1.sums, sum)
	}
	count := map[string]int{}
	const draws = 200_000
	for range draws {
		count[choose([]tier{t1}, nil, r.IntN).UID]++
	}
	for i, w := range t1.endpoints {
		want := float64(draws) * float64(i+1) / float64(sum)
		if got := float64(count[w.UID]); got < want*0.8 || got > want*1.2 {
			t.Errorf("endpoint %s chosen %v times, want about %v", w.UID, got, want)
		}
	}
	var avoid []string
	for range t1.endpoints {
		w := choose([]tier{t1}, avoid, r.IntN)
		for _, a := range avoid {
			if a == w.UID {
				t.Fatalf("%s chosen again", a)
			}
		}
		avoid = append(avoid, w.UID)
	}
	if w := choose([]tier{t1}, avoid, r.IntN); w != nil {
		t.Fatalf("%s chosen with nothing left", w.UID)
	}
}

// BenchmarkResolve chooses among the endpoints of a service.
func BenchmarkResolve(b *testing.B) {
	for _, n := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			svc := &state.Service{
				Namespace: "ns", Hostname: "s.local", VIPs: []state.NetworkAddr{{IP: netip.MustParseAddr("10.255.0.1")}},
				Ports:     []state.Port{{Service: 80}},
				Balancing: state.Balancing{Mode: state.ModeFailover, Preference: []state.Scope{state.ScopeNetwork, state.ScopeZone}},
			}
			u := &state.Update{Synced: state.TypesAll, Services: []*state.Service{svc}}
			for i := range n {
				u.Workloads = append(u.Workloads, &state.Workload{
					UID: fmt.Sprint(i), Name: fmt.Sprint(i), Capacity: 1,
					Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})},
					Place:     &state.Place{Node: fmt.Sprint(i / 50), Zone: fmt.Sprint(i % 3)},
					Profile: &state.Profile{
						Namespace: "ns", TrustDomain: "td", ServiceAccount: "sa", Tunnel: state.TunnelHBONE,
						Services: []state.Membership{{Service: svc.Key(), Ports: []state.Port{{Service: 80, Target: 8080}}}},
					},
				})
			}
			snap := state.NewStore(state.Config{Node: "0"}).Apply(u)
			f := Flow{Source: "0", Destination: netip.MustParseAddrPort("10.255.0.1:80")}
			b.ReportAllocs()
			for b.Loop() {
				if p := Resolve(snap, f, rand.IntN); !p.Tunnelled() {
					b.Fatal(p.Reason)
				}
			}
		})
	}
}
