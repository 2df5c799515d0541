package ztunnel

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/ambit-mesh/ambit/ztunnel/sockets/socketstest"
	"github.com/ambit-mesh/ambit/ztunnel/state"
)

// deny is a policy that denies a principal ("namespace/account" of the trust domain) a way to a namespace's workloads.
func deny(name, principal string) *state.Policy {
	return &state.Policy{
		Key: state.Key{Namespace: "shop", Name: name}, Scope: state.ScopeNamespace, Action: state.Deny,
		Rules: []state.Rule{{Clauses: []state.Clause{{Matches: []state.Match{{Principals: []state.StringMatch{{Op: state.OpExact, Value: principal}}}}}}}},
	}
}

func principal(account string) string { return "cluster.local/ns/shop/sa/" + account }

// strict is what the control plane makes of STRICT mutual TLS.
func strict() *state.Policy {
	return &state.Policy{
		Key: state.Key{Namespace: "istio-system", Name: "istio_converted_static_strict"}, Scope: state.ScopeSelector, Action: state.Deny,
		Rules: []state.Rule{{Clauses: []state.Clause{{Matches: []state.Match{{NotPrincipals: []state.StringMatch{{Op: state.OpPresence}}}}}}}},
	}
}

func expectReset(t *testing.T, c *net.TCPConn) {
	t.Helper()
	if n, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read %d bytes and %v, want a reset", n, err)
	}
}

// expectNoWay sees that an application in p cannot connect: the reset comes after the handshake, which may be during dial.
func (m *mesh) expectNoWay(p *socketstest.Pod, dst netip.AddrPort) {
	m.t.Helper()
	c, err := m.net.Connect(m.t.Context(), p, dst)
	m.expectResetOf(c, err)
}

func (m *mesh) expectResetOf(c *net.TCPConn, err error) {
	m.t.Helper()
	if err == nil {
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(patience))
		_, err = c.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		m.t.Errorf("got %v, want a reset", err)
	}
}

func TestDenied(t *testing.T) {
	m, client, _, dst := pair(t)
	m.apply(&state.Update{Policies: []*state.Policy{deny("no-web", principal("web"))}})
	m.expectNoWay(client, dst)
	m.nodes[1].log.wait(t, line{
		"direction": "inbound", "policy": "shop/no-web", "reason": "ExplicitDeny", "close": "denied", "src.workload": "web",
	})
	m.nodes[0].log.wait(t, line{"direction": "outbound", "error": "hbone: CONNECT answered with status 401"})

	other := m.nodes[0].pod("shop", "other", nil)
	c := m.dial(other, dst)
	greet(t, c)
}

func TestPlaintextDenied(t *testing.T) {
	m := newMesh(t)
	n := m.node("n1", nil)
	m.apply(&state.Update{Policies: []*state.Policy{strict()}})
	server := n.pod("shop", "cart", func(w *state.Workload) { w.Profile.Policies = []state.Key{strict().Key} })
	dst := m.app(server.Addresses[0], echo)
	m.expectResetOf(m.net.ConnectFrom(t.Context(), m.net.Addr(), dst))
	n.log.wait(t, line{"plan": "plaintext", "reason": "MTLSRequired", "policy": "istio-system/istio_converted_static_strict"})

	client := n.pod("shop", "web", nil)
	greet(t, m.dial(client, dst))
}

// A change of policy closes what it forbids, within a second, and nothing else: through a tunnel and in plain text.
func TestPolicyClosesLiveConnections(t *testing.T) {
	m, web, server, dst := pair(t)
	other := m.nodes[0].pod("shop", "other", nil)
	stranger := m.net.Addr()
	plain, err := m.net.ConnectFrom(t.Context(), stranger, dst)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	forbidden, allowed := []*net.TCPConn{m.dial(web, dst), m.dial(web, dst)}, []*net.TCPConn{m.dial(other, dst), plain}
	for _, c := range append(forbidden, allowed...) {
		greet(t, c)
		exchange(t, c, "hello")
	}
	start := time.Now()
	m.apply(&state.Update{Policies: []*state.Policy{deny("no-web", principal("web"))}})
	for _, c := range forbidden {
		expectReset(t, c)
	}
	if took := time.Since(start); took > time.Second {
		t.Errorf("took %v", took)
	}
	for _, c := range allowed {
		exchange(t, c, "still here")
	}
	m.nodes[1].log.wait(t, line{"direction": "inbound", "policy": "shop/no-web", "reason": "ExplicitDeny", "close": "policy change", "src.workload": "web"})
	m.nodes[0].log.wait(t, line{"direction": "outbound", "src.workload": "web", "close": "reset by server"})

	// A policy that is newly attached to the workload counts too.
	w := workload("n2", server.Pod)
	w.Profile.Policies = []state.Key{strict().Key}
	m.apply(&state.Update{Policies: []*state.Policy{strict()}, Workloads: []*state.Workload{w}})
	expectReset(t, plain)
	exchange(t, allowed[0], "has an identity")
	// The tunnel itself stayed.
	if n := m.net.Dials(at(server, 15008)); n != 2 {
		t.Errorf("%d tunnels, want one for each client", n)
	}
}

// A policy that is attached and has not arrived: new connections wait for it, and are denied when it does not come.
func TestPolicyMissing(t *testing.T) {
	m := newMesh(t)
	a := m.node("n1", nil)
	b := m.node("n2", func(p *parts) { p.hold = 300 * time.Millisecond })
	missing := deny("late", principal("nobody"))
	missing.Scope = state.ScopeSelector
	client := a.pod("shop", "web", nil)
	server := b.pod("shop", "cart", func(w *state.Workload) { w.Profile.Policies = []state.Key{missing.Key} })
	dst := m.app(server.Addresses[0], echo)

	m.expectNoWay(client, dst)
	b.log.wait(t, line{"reason": "PolicyMissing", "policy": "shop/late", "close": "denied"})

	c := m.dial(client, dst)
	m.apply(&state.Update{Policies: []*state.Policy{missing}})
	greet(t, c)
}

// A live connection stays while an answer is missing, and is closed only when it stays missing.
func TestPolicyMissingForLive(t *testing.T) {
	m, client, server, dst := pair(t)
	c := m.dial(client, dst)
	greet(t, c)
	w := workload("n2", server.Pod)
	late := deny("late", principal("nobody"))
	late.Scope = state.ScopeSelector
	w.Profile.Policies = []state.Key{late.Key}
	m.apply(&state.Update{Workloads: []*state.Workload{w}})
	exchange(t, c, "not denied, only unknown")
	m.apply(&state.Update{Policies: []*state.Policy{late}})
	exchange(t, c, "and allowed")

	gone := workload("n2", server.Pod)
	gone.Profile.Policies = []state.Key{{Namespace: "shop", Name: "never"}}
	m.apply(&state.Update{Workloads: []*state.Workload{gone}})
	exchange(t, c, "waits")
	start := time.Now()
	expectReset(t, c)
	if took := time.Since(start); took < 3*time.Second {
		t.Errorf("closed after %v already", took)
	}
	m.nodes[1].log.wait(t, line{"reason": "PolicyMissing", "policy": "shop/never", "close": "policy change"})
}

// Nothing is known yet: connections wait, and then are refused.
func TestHeldBeforeSync(t *testing.T) {
	m := newMesh(t)
	n := m.unsynced("n1", func(p *parts) { p.hold, p.limits.AcceptDelay = 300*time.Millisecond, time.Millisecond })
	client := n.pod("shop", "web", nil)
	dst := m.app(m.net.Addr(), echo)
	m.expectNoWay(client, dst)
	n.log.wait(t, line{"direction": "outbound", "plan": "hold", "reason": "NotSynced"})

	c := m.dial(client, dst)
	n.store.Apply(&state.Update{Synced: state.TypesAll})
	greet(t, c)
	// The connection that was refused before may still be leaving.
	eventually(t, "the pod has one connection, an outbound one", func() bool { return n.dp.outboundOnly(client) })
}

// outboundOnly reports that the pod is served, and what it has is one outbound connection.
func (d *dataplane) outboundOnly(p *socketstest.Pod) bool {
	for _, v := range d.pods.Views() {
		if v.Pod == p.Pod {
			return len(v.Connections) == 1 && !v.Connections[0].Inbound
		}
	}
	return false
}
