package xds

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/ambit-mesh/ambit/controller/api/authz"
	"github.com/ambit-mesh/ambit/controller/api/workload"
)

var epoch = time.Unix(1_700_000_000, 0)

func wl(name, node, ip string, services ...string) *workload.Address {
	w := &workload.Workload{Uid: "c//Pod/ns/" + name, Name: name, Namespace: "ns", Node: node, Services: map[string]*workload.PortList{}}
	if ip != "" {
		w.Addresses = [][]byte{{10, 0, 0, ip[0]}}
	}
	for _, s := range services {
		w.Services[s] = &workload.PortList{}
	}
	return &workload.Address{Type: &workload.Address_Workload{Workload: w}}
}

func svc(name string, ip byte) *workload.Address {
	s := &workload.Service{Name: name, Namespace: "ns", Hostname: name}
	if ip != 0 {
		s.Addresses = []*workload.NetworkAddress{{Address: []byte{10, 96, 0, ip}}}
	}
	return &workload.Address{Type: &workload.Address_Service{Service: s}}
}

// table publishes "name" or "name=content" and "-name"; p: policies, the rest workloads.
func publish(t *testing.T, tab *Table, items ...string) {
	t.Helper()
	addr, pol := map[string]*workload.Address{}, map[string]*authz.Authorization{}
	for _, it := range items {
		name, content, _ := strings.Cut(strings.TrimPrefix(it, "-"), "=")
		gone := strings.HasPrefix(it, "-")
		switch {
		case strings.HasPrefix(name, "p:") && gone:
			pol[name] = nil
		case strings.HasPrefix(name, "p:"):
			pol[name] = &authz.Authorization{Name: name, Namespace: content}
		case gone:
			addr[name] = nil
		default:
			addr[name] = wl(name, content, "")
		}
	}
	if err := tab.Publish(addr, pol, epoch); err != nil {
		t.Fatal(err)
	}
}

// peer is a client that behaves: it applies and acknowledges.
type peer struct {
	t    *testing.T
	tab  *Table
	s    *session
	held map[string]map[string]string // type, name: version
	now  time.Time
}

func newPeer(t *testing.T, tab *Table) *peer {
	return &peer{t, tab, newSession(node{node: "n1"}), map[string]map[string]string{workload.AddressTypeURL: {}, authz.TypeURL: {}}, epoch}
}

func (p *peer) send(req *discovery.DeltaDiscoveryRequest) outcome {
	p.t.Helper()
	o, err := p.s.request(asRequest(p.t, req), p.now)
	if err != nil {
		p.t.Fatal(err)
	}
	return o
}

// connect starts a stream with what the client holds, as a ztunnel does.
func (p *peer) connect() {
	p.s = newSession(node{node: "n1"})
	for _, url := range []string{workload.AddressTypeURL, authz.TypeURL} {
		p.send(&discovery.DeltaDiscoveryRequest{TypeUrl: url, InitialResourceVersions: maps.Clone(p.held[url])})
	}
}

// next is what the client would receive now, as "+name" and "-name" in order; nil if nothing.
func (p *peer) next() (*response, []string) {
	p.t.Helper()
	r, _, err := p.s.next(p.tab, p.now)
	if err != nil {
		p.t.Fatal(err)
	}
	if r == nil {
		return nil, nil
	}
	data, err := Codec().Marshal(r)
	if err != nil {
		p.t.Fatal(err)
	}
	var msg discovery.DeltaDiscoveryResponse
	if err := proto.Unmarshal(data.Materialize(), &msg); err != nil {
		p.t.Fatal(err)
	}
	if msg.TypeUrl != r.typeURL || msg.Nonce == "" {
		p.t.Fatalf("response without type or nonce: %v", &msg)
	}
	var got []string
	for _, x := range msg.Resources {
		if x.Version == "" || x.Resource.GetTypeUrl() != r.typeURL {
			p.t.Fatalf("resource without version or type: %v", x)
		}
		p.held[r.typeURL][x.Name] = x.Version
		got = append(got, "+"+x.Name)
	}
	for _, name := range msg.RemovedResources {
		delete(p.held[r.typeURL], name)
		got = append(got, "-"+name)
	}
	slices.Sort(got)
	return r, got
}

func (p *peer) ack(r *response) {
	p.send(&discovery.DeltaDiscoveryRequest{TypeUrl: r.typeURL, ResponseNonce: r.nonce})
}

// settle answers everything until there is nothing left; it returns what came, in order.
func (p *peer) settle() string {
	p.t.Helper()
	var all []string
	for range 100 {
		r, got := p.next()
		if r == nil {
			return strings.Join(all, " ")
		}
		all = append(all, got...)
		p.ack(r)
	}
	p.t.Fatal("it never settles")
	return ""
}

func TestFirstAnswers(t *testing.T) {
	tab := NewTable()
	p := newPeer(t, tab)
	p.connect()
	if r, _ := p.next(); r != nil {
		t.Fatal("answered before the first state was known")
	}
	publish(t, tab)
	types := map[string]bool{}
	for range 2 {
		r, got := p.next()
		if r == nil || len(got) != 0 {
			t.Fatalf("want an empty answer, got %v", got)
		}
		types[r.typeURL] = true
		p.ack(r)
	}
	if len(types) != 2 {
		t.Error("a type was not answered")
	}
	if r, _ := p.next(); r != nil {
		t.Error("a third answer")
	}
}

func TestChanges(t *testing.T) {
	tab := NewTable()
	publish(t, tab, "a", "b", "p:1")
	p := newPeer(t, tab)
	p.connect()
	if got := p.settle(); got != "+p:1 +a +b" {
		t.Errorf("first: %s", got)
	}
	publish(t, tab, "a=n2", "-b", "c")
	if got := p.settle(); got != "+a +c -b" {
		t.Errorf("change: %s", got)
	}
	// while one is in flight, changes gather, the newest wins, and what came and went is not mentioned but as gone
	publish(t, tab, "d")
	r, _ := p.next()
	publish(t, tab, "e=1")
	publish(t, tab, "e=2", "f")
	publish(t, tab, "-f")
	if again, _ := p.next(); again != nil {
		t.Fatal("two responses of one type in flight")
	}
	p.ack(r)
	if got := p.settle(); got != "+e -f" {
		t.Errorf("gathered: %s", got)
	}
}

func TestPolicyOrder(t *testing.T) {
	tab := NewTable()
	publish(t, tab, "a")
	p := newPeer(t, tab)
	p.connect()
	p.settle()
	publish(t, tab, "a=1", "p:1")
	if got := p.settle(); got != "+p:1 +a" {
		t.Errorf("new policy: %s", got)
	}
	publish(t, tab, "a=2", "-p:1")
	if got := p.settle(); got != "+a -p:1" {
		t.Errorf("old policy: %s", got)
	}

	// A workload that names a policy waits for a client that is slow to acknowledge the policy before it.
	publish(t, tab, "p:2")
	slow, _ := p.next()
	publish(t, tab, "p:3", "b")
	if r, got := p.next(); r != nil {
		t.Errorf("overtook the policy it names: %v", got)
	}
	p.ack(slow)
	if got := p.settle(); got != "+p:3 +b" {
		t.Errorf("after the acknowledgement: %s", got)
	}

	// A policy is not removed while the workloads that named it are still unacknowledged.
	publish(t, tab, "b=1", "-p:3")
	r, got := p.next()
	if strings.Join(got, " ") != "+b" {
		t.Fatalf("got %v", got)
	}
	if early, got := p.next(); early != nil {
		t.Errorf("removed too early: %v", got)
	}
	p.ack(r)
	if got := p.settle(); got != "-p:3" {
		t.Errorf("removal: %s", got)
	}
}

// A client asks for workloads first and for policies a moment later.
func TestWorkloadsWaitForPolicies(t *testing.T) {
	tab := NewTable()
	publish(t, tab, "a", "p:1")
	p := newPeer(t, tab)
	p.send(&discovery.DeltaDiscoveryRequest{TypeUrl: workload.AddressTypeURL})
	r, wait, err := p.s.next(tab, p.now)
	if r != nil || wait != grace || err != nil {
		t.Fatalf("did not wait: %v %v %v", r, wait, err)
	}
	p.send(&discovery.DeltaDiscoveryRequest{TypeUrl: authz.TypeURL})
	if got := p.settle(); got != "+p:1 +a" {
		t.Errorf("order: %s", got)
	}
	only := newPeer(t, tab)
	only.send(&discovery.DeltaDiscoveryRequest{TypeUrl: workload.AddressTypeURL})
	only.now = epoch.Add(grace)
	if got := only.settle(); got != "+a" {
		t.Errorf("a client that wants no policies: %s", got)
	}
}

func TestReconnect(t *testing.T) {
	tab := NewTable()
	publish(t, tab, "a", "b", "p:1", "p:2")
	p := newPeer(t, tab)
	p.connect()
	p.settle()
	p.connect()
	if got := p.settle(); got != "" {
		t.Errorf("up to date, but was sent %s", got)
	}
	other := NewTable() // another process
	publish(t, other, "a", "b=moved", "p:1")
	p.tab = other
	p.connect()
	if got := p.settle(); got != "+b -p:2" {
		t.Errorf("in another process: %s", got)
	}
}

func TestNack(t *testing.T) {
	tab := NewTable()
	publish(t, tab, "a")
	p := newPeer(t, tab)
	p.connect()
	p.settle()
	publish(t, tab, "a=1")
	r, _ := p.next()
	if o := p.send(&discovery.DeltaDiscoveryRequest{TypeUrl: r.typeURL, ResponseNonce: "other"}); o != stale {
		t.Error("an unknown nonce was taken")
	}
	if o := p.send(&discovery.DeltaDiscoveryRequest{TypeUrl: r.typeURL, ResponseNonce: r.nonce, ErrorDetail: &status.Status{}}); o != rejected {
		t.Error("code 0 with an error detail is a rejection")
	}
	if again, _ := p.next(); again != nil {
		t.Error("a rejection was answered")
	}
	if sub := p.s.subs[r.typeURL]; sub.lastError() == "" || sub.nacks != 1 {
		t.Errorf("not remembered: %+v", sub)
	}
	publish(t, tab, "a=2")
	if got := p.settle(); got != "+a" {
		t.Errorf("after a rejection: %s", got)
	}
}

func TestOnDemand(t *testing.T) {
	tab := NewTable()
	if err := tab.Publish(map[string]*workload.Address{
		"c//Pod/ns/mine": wl("mine", "n1", "1"), "c//Pod/ns/w1": wl("w1", "n2", "2", "ns/web"), "c//Pod/ns/w2": wl("w2", "n2", "3"), "ns/web": svc("web", 9),
	}, nil, epoch); err != nil {
		t.Fatal(err)
	}
	p := newPeer(t, tab)
	p.send(&discovery.DeltaDiscoveryRequest{TypeUrl: workload.AddressTypeURL, ResourceNamesSubscribe: []string{"*"}, ResourceNamesUnsubscribe: []string{"*"}})
	p.now = epoch.Add(time.Second)
	if got := p.settle(); got != "+c//Pod/ns/mine" {
		t.Errorf("own node: %s", got)
	}
	ask := func(names ...string) string {
		p.send(&discovery.DeltaDiscoveryRequest{TypeUrl: workload.AddressTypeURL, ResourceNamesSubscribe: names})
		return p.settle()
	}
	if got := ask("/10.96.0.9"); got != "+c//Pod/ns/w1 +ns/web -/10.96.0.9" {
		t.Errorf("service by address, with its workloads: %s", got)
	}
	if got := ask("/10.9.9.9"); got != "-/10.9.9.9" {
		t.Errorf("unknown: %s", got)
	}
	if got := ask("/10.0.0.51"); got != "+c//Pod/ns/w2 -/10.0.0.51" { // '3'
		t.Errorf("workload by address: %s", got)
	}
	if err := tab.Publish(map[string]*workload.Address{
		"c//Pod/ns/w3": wl("w3", "n2", "4", "ns/web"), "c//Pod/ns/no": wl("no", "n2", "5"), "c//Pod/ns/mine2": wl("mine2", "n1", "6"), "c//Pod/ns/w2": nil,
	}, nil, epoch); err != nil {
		t.Fatal(err)
	}
	if got := p.settle(); got != "+c//Pod/ns/mine2 +c//Pod/ns/w3 -c//Pod/ns/w2" {
		t.Errorf("change: %s", got)
	}
	// after a reconnect the client names what it holds
	held := maps.Clone(p.held[workload.AddressTypeURL])
	p.s = newSession(node{node: "n1"})
	p.send(&discovery.DeltaDiscoveryRequest{TypeUrl: workload.AddressTypeURL, ResourceNamesSubscribe: []string{"*"}, ResourceNamesUnsubscribe: []string{"*"}, InitialResourceVersions: held})
	if got := p.settle(); got != "" {
		t.Errorf("reconnect: %s", got)
	}
}

// A client that is far behind costs no memory, but has to reconnect to be told what is gone.
func TestForgottenRemovals(t *testing.T) {
	tab := NewTable()
	publish(t, tab, "keep")
	p := newPeer(t, tab)
	p.connect()
	p.settle()
	for i := range minGone + 10 {
		name := fmt.Sprint("x", i)
		publish(t, tab, name)
		publish(t, tab, "-"+name)
	}
	if n := len(tab.kinds[workload.AddressTypeURL].entries); n > minGone+1 {
		t.Errorf("%d entries kept", n)
	}
	if _, _, err := p.s.next(tab, p.now); grpcstatus.Code(err) != codes.Unavailable {
		t.Errorf("not told to reconnect: %v", err)
	}
	p.connect()
	if got := p.settle(); got != "" {
		t.Errorf("after reconnecting: %s", got)
	}
	// Finding what to forget passes by every live resource: that is not done at each removal.
	k := tab.kinds[workload.AddressTypeURL]
	forgot, floor := 0, k.floor
	for i := range 1000 {
		name := fmt.Sprint("y", i)
		publish(t, tab, name)
		publish(t, tab, "-"+name)
		if k.floor != floor {
			forgot, floor = forgot+1, k.floor
		}
	}
	if forgot > 1 {
		t.Errorf("forgot %d times in 1000 removals", forgot)
	}
}

// TestDeltaEqualsFull churns the table while clients of every speed are connected. When they have settled, each holds exactly
// what a client that connects anew is sent.
func TestDeltaEqualsFull(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 1))
		tab := NewTable()
		publish(t, tab)
		peers := []*peer{newPeer(t, tab), newPeer(t, tab), newPeer(t, tab)}
		var flight [3][]*response
		for _, p := range peers {
			p.connect()
		}
		for range 300 {
			switch i := rng.IntN(3); rng.IntN(5) {
			case 0, 1:
				var items []string
				for range 1 + rng.IntN(3) {
					name := fmt.Sprintf("%s%d", []string{"w", "p:"}[rng.IntN(2)], rng.IntN(12))
					items = append(items, []string{"-" + name, fmt.Sprintf("%s=%d", name, rng.IntN(4))}[rng.IntN(2)])
				}
				publish(t, tab, items...)
			case 2:
				if r, _ := peers[i].next(); r != nil {
					flight[i] = append(flight[i], r)
				}
			case 3:
				if len(flight[i]) > 0 {
					peers[i].ack(flight[i][0])
					flight[i] = flight[i][1:]
				}
			default:
				if rng.IntN(10) == 0 {
					peers[i].connect()
					flight[i] = nil
				}
			}
		}
		fresh := newPeer(t, tab)
		fresh.connect()
		fresh.settle()
		for i, p := range peers {
			for _, r := range flight[i] {
				p.ack(r)
			}
			p.settle()
			for url := range fresh.held {
				if !maps.Equal(p.held[url], fresh.held[url]) {
					t.Fatalf("seed %d client %d: holds %v, want %v", seed, i, p.held[url], fresh.held[url])
				}
			}
		}
	}
}

// FuzzRequests: no sequence of requests panics, and a session never has two responses of a type in flight.
func FuzzRequests(f *testing.F) {
	one := func(reqs ...*discovery.DeltaDiscoveryRequest) []byte {
		var out []byte
		for _, r := range reqs {
			b, err := proto.Marshal(r)
			if err != nil {
				f.Fatal(err)
			}
			out = append(append(out, byte(len(b)>>8), byte(len(b))), b...)
		}
		return out
	}
	f.Add(one(&discovery.DeltaDiscoveryRequest{TypeUrl: workload.AddressTypeURL}, &discovery.DeltaDiscoveryRequest{TypeUrl: authz.TypeURL}))
	f.Add(one(&discovery.DeltaDiscoveryRequest{TypeUrl: workload.AddressTypeURL, ResourceNamesSubscribe: []string{"*", "a", "/10.0.0.1"}, ResourceNamesUnsubscribe: []string{"*"}},
		&discovery.DeltaDiscoveryRequest{TypeUrl: workload.AddressTypeURL, ResponseNonce: "1-1", ErrorDetail: &status.Status{Message: "x"}}))
	f.Fuzz(func(t *testing.T, data []byte) {
		tab := NewTable()
		if err := tab.Publish(map[string]*workload.Address{"a": wl("a", "n1", "1", "ns/web"), "ns/web": svc("web", 1)}, nil, epoch); err != nil {
			t.Fatal(err)
		}
		s := newSession(node{node: "n1"})
		for len(data) >= 2 {
			n := int(data[0])<<8 | int(data[1])
			data = data[2:]
			n = min(n, len(data))
			var req request
			buf := mem.BufferSlice{mem.SliceBuffer(data[:n])}
			data = data[n:]
			if Codec().Unmarshal(buf, &req) != nil {
				continue
			}
			if _, err := s.request(&req, epoch); err != nil {
				return
			}
			for range 5 {
				r, _, err := s.next(tab, epoch.Add(time.Second))
				if err != nil || r == nil {
					break
				}
				if _, err := Codec().Marshal(r); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}
