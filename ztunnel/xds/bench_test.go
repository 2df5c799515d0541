package xds

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/ambit-mesh/ambit/controller/api/workload"
	"github.com/ambit-mesh/ambit/controller/client"
	"github.com/ambit-mesh/ambit/ztunnel/state"
)

// BenchmarkFirstSync feeds 100,000 workloads from their wire form, as the client does, and reports the live heap of
// store, names and versions, and the most that was in use on the way.
func BenchmarkFirstSync(b *testing.B) {
	const workloads = 100_000
	for range b.N {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		before, peak := m.HeapAlloc, uint64(0)
		store := state.NewStore(state.Config{Node: "node-1"})
		feed := NewFeed(store)
		versions := map[string]string{}
		for i := 0; i < workloads; i += 1000 {
			batch := client.Batch{TypeURL: workload.AddressTypeURL}
			for j := i; j < i+1000; j++ {
				name, body := wirePod(b, j)
				batch.Resources = append(batch.Resources, client.Resource{Name: name, Version: fmt.Sprintf("%016x", j), Body: body})
			}
			for _, r := range batch.Resources {
				versions[r.Name] = r.Version
			}
			if rejected := feed.Handle(batch); len(rejected) > 0 {
				b.Fatal(rejected)
			}
			feed.Flush()
			runtime.ReadMemStats(&m)
			peak = max(peak, m.HeapInuse-min(m.HeapInuse, before))
		}
		runtime.GC()
		runtime.ReadMemStats(&m)
		b.ReportMetric(float64(m.HeapAlloc-before)/(1<<20), "live-MiB")
		b.ReportMetric(float64(peak)/(1<<20), "peak-MiB")
		if n := store.Load().Size().Workloads; n != workloads || len(versions) != workloads {
			b.Fatal(n)
		}
		runtime.KeepAlive(store)
	}
}

// wirePod is a pod of a deployment of 20 on a node of 50.
func wirePod(b *testing.B, i int) (name string, body []byte) {
	d := i / 20
	ns, dep := fmt.Sprintf("namespace-%d", d%200), fmt.Sprintf("deployment-%d", d)
	pod := fmt.Sprintf("%s-7c9d8f6b5-x%05d", dep, i)
	w := &workload.Workload{
		Uid: "Kubernetes//Pod/" + ns + "/" + pod, Name: pod, Namespace: ns, Addresses: [][]byte{{10, byte(i >> 16), byte(i >> 8), byte(i)}},
		TunnelProtocol: workload.TunnelProtocol_HBONE, ServiceAccount: dep, Node: fmt.Sprintf("node-%d", i/50), CanonicalName: dep,
		CanonicalRevision: "v1", WorkloadName: dep, AuthorizationPolicies: []string{"istio-system/istio_converted_static_strict"},
		Services: map[string]*workload.PortList{
			ns + "/" + dep + "." + ns + ".svc.cluster.local": {Ports: []*workload.Port{{ServicePort: 80, TargetPort: 8080}}},
		},
		Locality: &workload.Locality{Region: "eu", Zone: fmt.Sprintf("eu-%d", i%3)},
	}
	return w.Uid, encode(b, address(w))
}
