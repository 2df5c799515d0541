package ztunnel

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/ambit-mesh/ambit/controller/api/spiffe"
	"github.com/ambit-mesh/ambit/ztunnel/cert/certtest"
	"github.com/ambit-mesh/ambit/ztunnel/hbone"
	"github.com/ambit-mesh/ambit/ztunnel/shift"
	"github.com/ambit-mesh/ambit/ztunnel/sockets/socketstest"
	"github.com/ambit-mesh/ambit/ztunnel/state"
)

// gateway is a network gateway: it ends the outer tunnel and passes what is in it, which it cannot read, on to a pod.
func (m *mesh) gateway(identity spiffe.ID, to *socketstest.Pod, heads chan<- hbone.Head) *socketstest.Pod {
	m.t.Helper()
	p := m.net.AddPod("istio-gateways", "east-west", "east-west")
	p.Listeners.Outbound.Close()
	p.Listeners.Inbound.Close()
	crt := m.ca.Issue(m.t, identity)
	ctx, cancel := context.WithCancel(m.t.Context())
	var all sync.WaitGroup
	all.Go(func() {
		for {
			a, err := p.Listeners.HBONE.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				var h hbone.Handshaker
				tls, err := h.Server(ctx, a.Conn, crt.Server())
				if err != nil {
					return
				}
				_ = hbone.ServeConn(ctx, tls, hbone.Config{}, func(s *hbone.Stream, h *hbone.Head) shift.Job {
					heads <- *h
					up, err := m.net.ConnectFrom(ctx, a.Client.Addr(), at(to, 15008))
					if err != nil || s.Accept(hbone.Baggage{}) != nil {
						return nil
					}
					r, err := hbone.NewRelay(up, s, new(hbone.Counters))
					if err != nil {
						return nil
					}
					for over := false; !over; {
						_, over = r.Run()
					}
					return nil
				})
			})
		}
	})
	m.t.Cleanup(func() {
		cancel()
		p.Listeners.HBONE.Close()
		all.Wait()
	})
	return p
}

// A service in another network is reached by a tunnel within a tunnel: the gateway never sees what is inside.
func TestAcrossNetworks(t *testing.T) {
	m := newMesh(t)
	a, b := m.node("n1", nil), m.unsynced("n2", nil)
	client := a.pod("shop", "web", nil)
	vip, svc, member := m.service(80)
	cart := certtest.ID("shop/cart")
	svc.SANs = []spiffe.ID{cart}

	// The far pod: its own node knows it as local, the near one as in another network, behind a gateway.
	far := m.net.AddPod("shop", "cart", "cart")
	app := m.app(far.Addresses[0], echo)
	local := workload("n2", far.Pod)
	member(app.Port())(local)
	b.store.Apply(&state.Update{Workloads: []*state.Workload{local}, Services: []*state.Service{svc}, Synced: state.TypesAll})
	if err := b.dp.pods.Add(far.Pod, far.Listeners); err != nil {
		t.Fatal(err)
	}
	heads := make(chan hbone.Head, 4)
	gw := m.gateway(certtest.ID("istio-gateways/east-west"), far, heads)
	remote := workload("elsewhere", far.Pod)
	remote.Addresses, remote.Profile.Network = nil, "far"
	member(app.Port())(remote)
	remote.Profile.Gateway = &state.Gateway{Addr: state.NetworkAddr{IP: gw.Addresses[0]}, Port: 15008}
	a.store.Apply(&state.Update{
		Services: []*state.Service{svc}, Workloads: []*state.Workload{remote, workload("elsewhere", gw.Pod)},
	})

	c := m.dial(client, vip)
	greet(t, c)
	exchange(t, c, "in another network")
	c.CloseWrite()
	if rest, err := io.ReadAll(c); len(rest) > 0 || err != nil {
		t.Errorf("%q, %v", rest, err)
	}
	if h := <-heads; h.Authority != fmt.Sprintf("%s:80", svc.Hostname) || h.Network != "" {
		t.Errorf("the gateway was asked for %+v", h)
	}
	a.log.wait(t, line{"plan": "gateway", "dst.hbone_addr": svc.Hostname + ":80", "close": "eof", "bytes_sent": 18})
	b.log.wait(t, line{"direction": "inbound", "dst.service": svc.Hostname, "src.identity": "spiffe://cluster.local/ns/shop/sa/web"})
}

// An address in the mesh's ranges that nobody knows is waited for, and then connected to as it is.
func TestUnknownAddress(t *testing.T) {
	m := newMesh(t)
	asked := make(chan netip.Addr, 1)
	n := m.inRanges("n1", netip.MustParsePrefix("127.0.0.0/8"), func(p *parts) { p.ask = func(a netip.Addr) { asked <- a } })
	client := n.pod("shop", "web", nil)
	start := time.Now()
	dst := m.app(m.net.Addr(), echo)
	greet(t, m.dial(client, dst))
	if took := time.Since(start); took < 900*time.Millisecond {
		t.Errorf("waited %v only", took)
	}
	if got := <-asked; got != dst.Addr() {
		t.Errorf("asked for %v", got)
	}
	// One that becomes known meanwhile goes through a tunnel.
	late := m.net.AddPod("shop", "late", "late")
	app := m.app(late.Addresses[0], echo)
	c := m.dial(client, app)
	<-asked
	m.apply(&state.Update{Workloads: []*state.Workload{workload("n1", late.Pod)}})
	if err := n.dp.pods.Add(late.Pod, late.Listeners); err != nil {
		t.Fatal(err)
	}
	greet(t, c)
	c.Close()
	n.log.wait(t, line{"plan": "same-node", "dst.workload": "late"})
}

// addresses is a Resolver of fixed answers.
type addresses map[string][]netip.Addr

func (a addresses) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	if found, ok := a[host]; ok {
		return found, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
}

// A workload that has a name and no address is looked up; one that is not found is refused.
func TestHostNames(t *testing.T) {
	m := newMesh(t)
	outside := m.app(m.net.Addr(), echo)
	names := addresses{"db.example.com": {netip.MustParseAddr("2001:db8::1"), outside.Addr()}}
	n := m.node("n1", func(p *parts) { p.resolver = names })
	client := n.pod("shop", "web", nil)
	vip, svc, member := m.service(80)
	w := &state.Workload{
		UID: "db", Name: "db", Capacity: 1, Profile: &state.Profile{Namespace: "shop", Hostname: "db.example.com"}, Place: &state.Place{},
	}
	member(outside.Port())(w)
	m.apply(&state.Update{Services: []*state.Service{svc}, Workloads: []*state.Workload{w}})
	m.once(client, vip)
	n.log.wait(t, line{"plan": "direct", "dst.addr": outside, "dst.service": svc.Hostname})
	delete(names, "db.example.com")
	m.expectNoWay(client, vip)
}
