package state

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// world is the truth the random test keeps beside the Store.
type world struct {
	workloads map[string]*Workload
	services  map[Key]*Service
	policies  map[Key]*Policy
}

func (w *world) update() *Update {
	u := &Update{}
	for _, x := range w.workloads {
		u.Workloads = append(u.Workloads, x)
	}
	for _, x := range w.services {
		u.Services = append(u.Services, x)
	}
	for _, x := range w.policies {
		u.Policies = append(u.Policies, x)
	}
	return u
}

func randomWorkload(r *rand.Rand, uid string) *Workload {
	ns := fmt.Sprintf("ns%d", r.IntN(3))
	p := &Profile{Namespace: ns, ServiceAccount: fmt.Sprintf("sa%d", r.IntN(3)), TrustDomain: "cluster.local"}
	p.Network = []string{"", "", "other"}[r.IntN(3)]
	p.HostNetwork = r.IntN(10) == 0
	p.Tunnel = Tunnel(r.IntN(2))
	if r.IntN(5) == 0 {
		p.Hostname = fmt.Sprintf("host%d", r.IntN(3))
	}
	for i := range r.IntN(3) {
		p.Policies = append(p.Policies, Key{ns, fmt.Sprintf("p%d", i*2+r.IntN(2))})
	}
	for i := range r.IntN(3) {
		p.Services = append(p.Services, Membership{Service: Key{"ns0", fmt.Sprintf("svc%d", i)}, Ports: []Port{{80, uint16(r.IntN(9))}}})
	}
	w := &Workload{UID: uid, Name: uid, Profile: p, Place: &Place{Node: fmt.Sprintf("n%d", r.IntN(2)), Zone: "z"}}
	w.Capacity, w.Unhealthy = uint32(r.IntN(2)), r.IntN(4) == 0
	for range r.IntN(3) {
		w.Addresses = append(w.Addresses, netip.AddrFrom4([4]byte{10, 0, 0, byte(r.IntN(12))}))
	}
	return w
}

func randomService(r *rand.Rand, k Key) *Service {
	s := &Service{Namespace: k.Namespace, Hostname: k.Name, Canonical: r.IntN(2) == 0, Restricted: r.IntN(3) == 0}
	s.Ports = []Port{{80, uint16(r.IntN(3))}}
	for range r.IntN(3) {
		s.VIPs = append(s.VIPs, NetworkAddr{"", netip.AddrFrom4([4]byte{10, 1, 0, byte(r.IntN(4))})})
	}
	slices.SortFunc(s.VIPs, func(a, b NetworkAddr) int { return a.IP.Compare(b.IP) })
	s.VIPs = slices.Compact(s.VIPs)
	if r.IntN(2) == 0 {
		p, _ := netip.AddrFrom4([4]byte{10, byte(r.IntN(3)), 0, 0}).Prefix(8 + r.IntN(16))
		s.CIDRs = append(s.CIDRs, NetworkPrefix{"", p})
	}
	return s
}

func randomPolicy(r *rand.Rand, k Key) *Policy {
	return &Policy{Key: k, Scope: PolicyScope(r.IntN(3)), Action: Action(r.IntN(2)), DryRun: r.IntN(4) == 0}
}

// step changes the world at random and returns the update that says so.
func (w *world) step(r *rand.Rand) *Update {
	u := &Update{}
	for range 1 + r.IntN(8) {
		uid := fmt.Sprintf("c/%s/w%d", []string{"/Pod", "x"}[r.IntN(2)], r.IntN(30))
		sk := Key{fmt.Sprintf("ns%d", r.IntN(2)), fmt.Sprintf("svc%d", r.IntN(4))}
		pk := Key{fmt.Sprintf("ns%d", r.IntN(3)), fmt.Sprintf("p%d", r.IntN(5))}
		// At most one change of each name in an update: additions go before removals there.
		switch r.IntN(6) {
		case 0, 1:
			if slices.Contains(u.RemovedWorkloads, uid) {
				continue
			}
			x := randomWorkload(r, uid)
			w.workloads[uid] = x
			u.Workloads = append(u.Workloads, x)
		case 2:
			delete(w.workloads, uid)
			u.RemovedWorkloads = append(u.RemovedWorkloads, uid)
		case 3:
			if slices.Contains(u.RemovedServices, sk) || slices.Contains(u.RemovedPolicies, pk) {
				continue
			}
			s, p := randomService(r, sk), randomPolicy(r, pk)
			w.services[sk], w.policies[pk] = s, p
			u.Services, u.Policies = append(u.Services, s), append(u.Policies, p)
		case 4:
			delete(w.services, sk)
			u.RemovedServices = append(u.RemovedServices, sk)
		case 5:
			delete(w.policies, pk)
			u.RemovedPolicies = append(u.RemovedPolicies, pk)
		}
	}
	return u
}

// TestIncrementalEqualsRebuild is the oracle: after any history, the indexes are those of a store that was given the
// present state at once.
func TestIncrementalEqualsRebuild(t *testing.T) {
	cfg := Config{Node: "n1"}
	for seed := range uint64(10) {
		r := rand.New(rand.NewPCG(seed, 7))
		w := &world{map[string]*Workload{}, map[Key]*Service{}, map[Key]*Policy{}}
		store := NewStore(cfg)
		var before *Snapshot
		var beforeText []string
		for step := range 60 {
			snap := store.Apply(w.step(r))
			fresh := NewStore(cfg).Apply(w.update())
			if diff := cmp.Diff(describe(fresh), describe(snap)); diff != "" {
				t.Fatalf("seed %d step %d: incremental snapshot differs from a rebuild (-rebuild +incremental):\n%s", seed, step, diff)
			}
			if before != nil {
				if diff := cmp.Diff(beforeText, describe(before)); diff != "" {
					t.Fatalf("seed %d step %d: an older snapshot changed:\n%s", seed, step, diff)
				}
			}
			before, beforeText = snap, describe(snap)
		}
		for uid := range w.workloads {
			store.Apply(&Update{RemovedWorkloads: []string{uid}})
		}
		in := store.b.intern
		if len(in.profiles)+len(in.users)+len(in.places)+len(in.refs)+len(store.b.policies.refs) != 0 {
			t.Fatalf("seed %d: the interner keeps what nobody uses: %d profiles, %d places, %d lists", seed, len(in.users), len(in.places), len(in.refs))
		}
		if n := store.Load().selected.Len(); n != 0 {
			t.Fatalf("seed %d: %d policy layers of workloads that are gone", seed, n)
		}
	}
}

// describe writes every index as sorted text.
func describe(s *Snapshot) []string {
	var out []string
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	uids := func(ws []*Workload) string {
		var l []string
		for _, w := range ws {
			l = append(l, w.UID)
		}
		return strings.Join(l, ",")
	}
	svcs := func(list []*Service) string {
		var l []string
		for _, x := range list {
			l = append(l, x.Key().String())
		}
		return strings.Join(l, ",")
	}
	layer := func(l *PolicyLayer) string {
		if l == nil {
			return "nil"
		}
		return fmt.Sprint(l.Missing, len(l.Policies), func() (k []Key) {
			for _, p := range l.Policies {
				k = append(k, p.Key)
			}
			return k
		}())
	}
	for uid, w := range s.workloads.All() {
		set := s.PoliciesOf(w)
		add("workload %s %s %v %+v %+v %d %v: %s | %s | %s", uid, w.Name, w.Addresses, *w.Profile, *w.Place, w.Capacity, w.Unhealthy,
			layer(set.Global), layer(set.Namespace), layer(set.Selected))
	}
	for k, w := range s.byAddr.All() {
		add("address %v: %s", k, w.UID)
	}
	for k, ws := range s.contested.All() {
		add("contested %v: %s", k, uids(ws))
	}
	for k, ws := range s.byHost.All() {
		add("hostname %v: %s", k, uids(ws))
	}
	for k, ws := range s.locals.All() {
		add("local %v: %s", k, uids(ws))
	}
	for k, x := range s.services.All() {
		add("service %v: %+v", k, *x)
	}
	for k, l := range s.named.All() {
		add("named %v: %s", k, svcs(l))
	}
	for k, l := range s.byVIP.All() {
		add("vip %v: %s", k, svcs(l))
	}
	for k, l := range s.byCIDR.All() {
		add("cidr %v: %s", k, svcs(l))
	}
	for k, n := range s.cidrBits.All() {
		add("bits %v: %d", k, n)
	}
	for k, e := range s.endpoints.All() {
		add("endpoints %v: %s", k, uids(e.list))
	}
	for k, p := range s.policies.All() {
		add("policy %v: %+v", k, *p)
	}
	add("global %s", layer(s.global))
	for ns, l := range s.namespaces.All() {
		add("namespace %s %s", ns, layer(l))
	}
	slices.Sort(out)
	return out
}
