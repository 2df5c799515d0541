package dump_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"testing"

	"github.com/ambit-mesh/ambit/ztunnel/state"
	"github.com/ambit-mesh/ambit/ztunnel/state/dump"
)

// BenchmarkDump10000 is what a dump of ten thousand workloads costs, JSON included.
func BenchmarkDump10000(b *testing.B) {
	u := &state.Update{Synced: state.TypesAll}
	for i := range 10_000 {
		u.Workloads = append(u.Workloads, &state.Workload{
			UID: fmt.Sprintf("Kubernetes//Pod/ns/%d", i), Name: fmt.Sprint(i), Capacity: 1,
			Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})},
			Profile: &state.Profile{
				Namespace: "ns", TrustDomain: "cluster.local", ServiceAccount: "a", ClusterID: "Kubernetes",
				Tunnel: state.TunnelHBONE,
			},
			Place: &state.Place{Node: "n1"},
		})
	}
	snap := state.NewStore(state.Config{}).Apply(u)
	b.ReportAllocs()
	for b.Loop() {
		text, err := json.Marshal(dump.Of(snap))
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(len(text)))
	}
}
