package state

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"
)

// mesh is n pods in deployments of 20 on nodes of 50, each in one Service, as a large cluster has them.
func mesh(n int) *Update {
	u := &Update{}
	for i := range n {
		d := i / 20
		if i%20 == 0 {
			u.Services = append(u.Services, &Service{
				Name: fmt.Sprintf("svc-%d", d), Namespace: fmt.Sprintf("namespace-%d", d%200),
				Hostname: fmt.Sprintf("svc-%d.namespace-%d.svc.cluster.local", d, d%200),
				VIPs:     []NetworkAddr{{"", netip.AddrFrom4([4]byte{172, 16, byte(d >> 8), byte(d)})}},
				Ports:    []Port{{80, 8080}},
			})
		}
		u.Workloads = append(u.Workloads, pod(i))
	}
	return u
}

// pod makes every string anew, as decoding does.
func pod(i int) *Workload {
	d := i / 20
	ns := fmt.Sprintf("namespace-%d", d%200)
	name := fmt.Sprintf("deployment-%d-7c9d8f6b5-x%05d", d, i)
	return &Workload{
		UID: "Kubernetes//Pod/" + ns + "/" + name, Name: name,
		Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})},
		Profile: &Profile{
			Namespace: ns, TrustDomain: "cluster.local", ServiceAccount: fmt.Sprintf("deployment-%d", d),
			ClusterID: "Kubernetes", CanonicalName: fmt.Sprintf("deployment-%d", d), CanonicalRevision: "v1",
			Controller: fmt.Sprintf("deployment-%d", d), Tunnel: TunnelHBONE,
			Policies: []Key{{"istio-system", "istio_converted_static_strict"}},
			Services: []Membership{{Service: Key{ns, fmt.Sprintf("svc-%d.%s.svc.cluster.local", d, ns)}, Ports: []Port{{80, 8080}}}},
		},
		Place:    &Place{Node: fmt.Sprintf("node-%d", i/50), Region: "eu", Zone: fmt.Sprintf("eu-%d", i%3)},
		Capacity: 1,
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkMemory reports the live heap of a store with 100,000 workloads.
func BenchmarkMemory(b *testing.B) {
	for range b.N {
		before := heap()
		store := NewStore(Config{Node: "node-1"})
		for i := 0; i < 100_000; i += 1000 { // as the xDS client does: decode some, apply some
			u := &Update{}
			for j := i; j < i+1000; j++ {
				u.Workloads = append(u.Workloads, pod(j))
			}
			store.Apply(u)
		}
		services := mesh(100_000).Services
		store.Apply(&Update{Services: services, Synced: TypesAll})
		services = nil
		b.ReportMetric(float64(heap()-before)/(1<<20), "MiB")
		runtime.KeepAlive(store)
	}
}

// BenchmarkUpdate changes one workload of 100,000.
func BenchmarkUpdate(b *testing.B) {
	store := NewStore(Config{Node: "node-1"})
	store.Apply(mesh(100_000))
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		w := pod(i % 100_000)
		w.Unhealthy = i/100_000%2 == 0
		store.Apply(&Update{Workloads: []*Workload{w}})
		i += 7919
	}
}

// BenchmarkLookup finds a workload by address among 100,000.
func BenchmarkLookup(b *testing.B) {
	store := NewStore(Config{Node: "node-1"})
	snap := store.Apply(mesh(100_000))
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		if snap.WorkloadAt(NetworkAddr{"", netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})}) == nil {
			b.Fatal("not found", i)
		}
		i = (i + 7919) % 100_000
	}
}
