package xds

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/ambit-mesh/ambit/controller/api/authz"
	"github.com/ambit-mesh/ambit/controller/api/workload"
)

// world is a small mesh that is always consistent: a workload names only policies that exist.
type world struct {
	t    testing.TB
	tab  *Table
	wl   map[string]*workload.Address
	pol  map[string]*authz.Authorization
	tick int

	since   map[[2]string]int // tick from which on a policy applies to a workload
	clients []*model
}

func (w *world) publish(change func()) {
	oldW, oldP := maps.Clone(w.wl), maps.Clone(w.pol)
	change()
	for name, a := range w.wl { // a policy that goes is let go of first
		names := a.GetWorkload().GetAuthorizationPolicies()
		if slices.ContainsFunc(names, func(p string) bool { return w.pol[p] == nil }) {
			a = proto.Clone(a).(*workload.Address)
			a.GetWorkload().AuthorizationPolicies = slices.DeleteFunc(slices.Clone(names), func(p string) bool { return w.pol[p] == nil })
			w.wl[name] = a
		}
	}
	addr, pol := map[string]*workload.Address{}, map[string]*authz.Authorization{}
	for name := range oldW {
		if w.wl[name] == nil {
			addr[name] = nil
		}
	}
	for name, a := range w.wl {
		if oldW[name] != a {
			addr[name] = a
		}
	}
	for name := range oldP {
		if w.pol[name] == nil {
			pol[name] = nil
		}
	}
	for name, p := range w.pol {
		if oldP[name] != p {
			pol[name] = p
		}
	}
	if err := w.tab.Publish(addr, pol, epoch); err != nil {
		w.t.Fatal(err)
	}
	for name := range oldW {
		for p := range oldP {
			if pair := [2]string{name, p}; !w.applies(name, p) {
				delete(w.since, pair)
				for _, m := range w.clients {
					delete(m.applied, pair)
				}
			}
		}
	}
	for name := range w.wl {
		for p := range w.pol {
			if _, ok := w.since[[2]string{name, p}]; !ok && w.applies(name, p) {
				w.since[[2]string{name, p}] = w.tick
			}
		}
	}
}

// restart is another process that has read the same world.
func (w *world) restart() {
	w.tab = NewTable()
	if err := w.tab.Publish(w.wl, w.pol, epoch); err != nil {
		w.t.Fatal(err)
	}
}

// model is a client that applies what it accepts, rejects what it is told to, and checks what it must never see.
type model struct {
	t        testing.TB
	w        *world
	onDemand bool
	asked    map[string]bool
	s        *session
	held     map[string]map[string]string // type, name: version of what was accepted
	names    map[string][]string          // policies that a held workload names
	broad    map[string]bool              // held policies that apply to all
	applied  map[[2]string]bool           // workload and policy: it applied here, and in the world from what is known here to now
	as       map[string]int               // tick of the world as which a held name is known
	bad      map[string]string            // version that was rejected, by type and name
	flight   []*discovery.DeltaDiscoveryResponse
	ticks    []int // of the world, when those were made
	now      time.Time
}

func (m *model) request(req *discovery.DeltaDiscoveryRequest) {
	if _, err := m.s.request(asRequest(m.t, req), m.now); err != nil {
		m.t.Fatal(err)
	}
}

// connect opens a stream, with a list that may hold more than there is.
func (m *model) connect(extra int) {
	m.s = newSession(node{node: "n1", role: proxyRole})
	m.flight, m.ticks = nil, nil
	for _, url := range []string{workload.AddressTypeURL, authz.TypeURL} {
		req := &discovery.DeltaDiscoveryRequest{TypeUrl: url, InitialResourceVersions: maps.Clone(m.held[url])}
		for i := range extra {
			name := fmt.Sprint("ghost", i)
			m.held[url][name] = "1"
			req.InitialResourceVersions[name] = "1"
		}
		if m.onDemand && url == workload.AddressTypeURL {
			req.ResourceNamesSubscribe, req.ResourceNamesUnsubscribe = []string{"*"}, []string{"*"}
			for name := range m.asked {
				req.ResourceNamesSubscribe = append(req.ResourceNamesSubscribe, name)
			}
		}
		m.request(req)
	}
}

// receive takes what the session has to say, if anything.
func (m *model) receive() bool {
	r, _, err := m.s.next(m.w.tab, m.now)
	if err != nil {
		m.t.Fatal(err)
	}
	if r == nil {
		return false
	}
	for _, f := range m.flight {
		if f.TypeUrl == r.typeURL {
			m.t.Fatalf("two responses of %s in flight", r.typeURL)
		}
	}
	data, err := Codec().Marshal(r)
	if err != nil {
		m.t.Fatal(err)
	}
	msg := &discovery.DeltaDiscoveryResponse{}
	if err := proto.Unmarshal(data.Materialize(), msg); err != nil {
		m.t.Fatal(err)
	}
	m.flight, m.ticks = append(m.flight, msg), append(m.ticks, m.w.tick)
	return true
}

// answer applies the oldest response and answers it; every nth resource is rejected, none if n is 0.
func (m *model) answer(n int) {
	if len(m.flight) == 0 {
		return
	}
	msg := m.flight[0]
	m.flight = m.flight[1:]
	defer func() { m.ticks = m.ticks[1:] }()
	held := m.held[msg.TypeUrl]
	var complaint []string
	seen := map[string]bool{}
	for i, x := range msg.Resources {
		if seen[x.Name] {
			m.t.Fatalf("%s twice in one response", x.Name)
		}
		seen[x.Name] = true
		if n > 0 && i%n == 0 {
			m.bad[msg.TypeUrl+x.Name] = x.Version
			complaint = append(complaint, x.Name+": do not like it")
			continue
		}
		delete(m.bad, msg.TypeUrl+x.Name)
		held[x.Name], m.as[x.Name] = x.Version, m.ticks[0]
		if msg.TypeUrl == workload.AddressTypeURL {
			a := &workload.Address{}
			if err := x.Resource.UnmarshalTo(a); err != nil {
				m.t.Fatal(err)
			}
			m.names[x.Name] = a.GetWorkload().GetAuthorizationPolicies()
		} else {
			p := &authz.Authorization{}
			if err := x.Resource.UnmarshalTo(p); err != nil {
				m.t.Fatal(err)
			}
			m.broad[x.Name] = p.Scope != authz.Scope_WORKLOAD_SELECTOR
		}
	}
	for _, name := range msg.RemovedResources {
		delete(held, name)
		delete(m.bad, msg.TypeUrl+name)
		if msg.TypeUrl == workload.AddressTypeURL {
			delete(m.names, name)
		}
	}
	m.check()
	ack := &discovery.DeltaDiscoveryRequest{TypeUrl: msg.TypeUrl, ResponseNonce: msg.Nonce}
	if len(complaint) > 0 {
		ack.ErrorDetail = &status.Status{Message: strings.Join(complaint, "; ")}
	}
	m.request(ack)
}

// check: every policy a held workload names is held, or the client itself would not take one of the two.
func (m *model) check() {
	for name, policies := range m.names {
		if _, ok := m.bad[workload.AddressTypeURL+name]; ok {
			continue
		}
		for _, p := range policies {
			_, ok := m.held[authz.TypeURL][p]
			if _, rejected := m.bad[authz.TypeURL+p]; !ok && !rejected {
				m.t.Fatalf("%s is held and names policy %s, which is not", name, p)
			}
		}
	}
	m.checkScopes()
}

// checkScopes: a policy that applies to a workload all the time in the world does so here, once it has.
func (m *model) checkScopes() {
	for name := range m.held[workload.AddressTypeURL] {
		for p := range m.held[authz.TypeURL] {
			pair := [2]string{name, p}
			_, badW := m.bad[workload.AddressTypeURL+name]
			_, badP := m.bad[authz.TypeURL+p]
			since, applies := m.w.since[pair]
			switch here := m.broad[p] || slices.Contains(m.names[name], p); {
			case badW || badP || !applies:
				delete(m.applied, pair)
			case here:
				m.applied[pair] = m.applied[pair] || since <= min(m.as[name], m.as[p])
			case m.applied[pair]:
				m.t.Fatalf("%s applies to %s no more for a moment", p, name)
			}
		}
	}
}

// applies reports whether a policy is for a workload.
func (w *world) applies(workload, policy string) bool {
	a, p := w.wl[workload], w.pol[policy]
	if a == nil || p == nil {
		return false
	}
	return p.Scope != authz.Scope_WORKLOAD_SELECTOR || slices.Contains(a.GetWorkload().GetAuthorizationPolicies(), policy)
}

// rescope makes a policy one for all, or for the workloads whose numbers share a bit with selector.
func (w *world) rescope(policy string, selector int) {
	p := proto.Clone(w.pol[policy]).(*authz.Authorization)
	p.Scope, p.Name = authz.Scope_NAMESPACE, fmt.Sprint(w.tick)
	if selector > 0 {
		p.Scope = authz.Scope_WORKLOAD_SELECTOR
	}
	w.pol[policy] = p
	for name, a := range w.wl {
		a = proto.Clone(a).(*workload.Address)
		names := slices.DeleteFunc(slices.Clone(a.GetWorkload().AuthorizationPolicies), func(s string) bool { return s == policy })
		if selector&(1+int(name[len(name)-1]-'0')) != 0 {
			names = append(names, policy)
		}
		a.GetWorkload().AuthorizationPolicies = names
		w.wl[name] = a
	}
}

// settled: what is held is what there is, but for what was rejected, which syncz names.
func (m *model) settled() {
	for range 1000 {
		if !m.receive() && len(m.flight) == 0 {
			break
		}
		m.answer(0)
	}
	for url, k := range m.w.tab.kinds {
		for name := range m.held[url] {
			if e := k.entries[name]; e == nil || e.gone {
				m.t.Fatalf("still holds %s, which is gone", name)
			}
		}
		for name, e := range k.entries {
			_, rejected := m.bad[url+name]
			want := !e.gone && (!m.onDemand || url == authz.TypeURL || e.node == "n1" || m.asked[name])
			switch {
			case e.gone || !want && m.held[url][name] == "":
			case rejected && m.held[url][name] == e.version: // it is again as it was before, which the client has
			case rejected:
				if m.bad[url+name] != e.version {
					m.t.Fatalf("%s changed after it was rejected, and was not sent", name)
				}
				if _, ok := m.s.subs[url].rejected[name]; !ok {
					m.t.Fatalf("the rejection of %s is forgotten", name)
				}
			case m.held[url][name] != e.version:
				m.t.Fatalf("holds %s at %q, want %q", name, m.held[url][name], e.version)
			}
		}
		for name := range m.s.subs[url].rejected {
			if _, ok := m.bad[url+name]; !ok {
				m.t.Fatalf("%s is said to be rejected", name)
			}
		}
	}
	if m.receive() {
		m.t.Fatal("it never settles")
	}
}

// play reads a script of steps, two bytes each, and checks the world's clients at the end.
func play(t testing.TB, script []byte) {
	w := &world{t: t, tab: NewTable(), wl: map[string]*workload.Address{}, pol: map[string]*authz.Authorization{}, since: map[[2]string]int{}}
	w.publish(func() {})
	var clients []*model
	for i := range 3 {
		m := &model{
			t: t, w: w, onDemand: i == 2, asked: map[string]bool{}, now: epoch, names: map[string][]string{}, bad: map[string]string{},
			broad: map[string]bool{}, as: map[string]int{}, applied: map[[2]string]bool{},
			held: map[string]map[string]string{workload.AddressTypeURL: {}, authz.TypeURL: {}},
		}
		m.connect(0)
		clients = append(clients, m)
	}
	w.clients = clients
	for ; len(script) >= 2; script = script[2:] {
		arg := int(script[1])
		m := clients[arg%len(clients)]
		w.tick++
		wlName, polName := fmt.Sprint("c//Pod/ns/w", arg%7), fmt.Sprint("ns/p", arg%3)
		switch script[0] % 14 {
		case 0, 1: // a workload, with a policy if there is one
			w.publish(func() {
				a := wl(wlName, []string{"n1", "n2"}[arg>>3&1], "")
				a.GetWorkload().Name = fmt.Sprint(arg >> 4)
				if w.pol[polName] != nil {
					a.GetWorkload().AuthorizationPolicies = []string{polName}
				}
				w.wl[wlName] = a
			})
		case 2:
			w.publish(func() { delete(w.wl, wlName) })
		case 3: // a policy, and a workload that names it
			w.publish(func() {
				w.pol[polName] = &authz.Authorization{Name: fmt.Sprint(w.tick), Scope: authz.Scope_WORKLOAD_SELECTOR}
				a := wl(wlName, "n1", "")
				a.GetWorkload().AuthorizationPolicies = []string{polName}
				w.wl[wlName] = a
			})
		case 4:
			w.publish(func() { delete(w.pol, polName) })
		case 12, 13:
			if w.pol[polName] != nil {
				w.publish(func() { w.rescope(polName, arg>>4&7) })
			}
		case 5, 6, 7:
			m.receive()
		case 8, 9:
			m.answer(0)
		case 10:
			m.answer(1 + arg>>4)
		case 11:
			switch arg >> 5 {
			case 0: // every client finds another process
				w.restart()
				for _, m := range clients {
					m.connect(0)
				}
			case 1, 2:
				m.connect(arg >> 3 & 3)
			default:
				if m.onDemand && !m.asked[wlName] {
					m.asked[wlName] = true
					m.request(&discovery.DeltaDiscoveryRequest{TypeUrl: workload.AddressTypeURL, ResourceNamesSubscribe: []string{wlName}})
				}
			}
		}
	}
	for _, m := range clients {
		m.settled()
	}
}

// FuzzModel: whatever happens, to whichever client, in whichever order, each ends with what there is.
func FuzzModel(f *testing.F) {
	f.Add([]byte{3, 0, 5, 0, 8, 0, 5, 0, 10, 0, 11, 33, 4, 0, 0, 8})
	for seed := range 64 {
		script := make([]byte, 400)
		x := uint32(seed*2654435761 + 1)
		for i := range script {
			x ^= x << 13
			x ^= x >> 17
			x ^= x << 5
			script[i] = byte(x >> 8)
		}
		f.Add(script)
	}
	f.Fuzz(func(t *testing.T, script []byte) { play(t, script[:min(len(script), 4000)]) })
}
