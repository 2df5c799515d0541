package ca

import (
	"testing"
	"time"

	"github.com/ambit-mesh/ambit/controller/api/spiffe"
	"github.com/ambit-mesh/ambit/controller/auth"
)

var (
	epoch = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	web   = spiffe.ID{TrustDomain: "cluster.local", Namespace: "shop", ServiceAccount: "web"}
)

func clock() time.Time { return epoch }

// world is where pods run: "node namespace/account", and proxies' pods: "namespace/pod/uid" to "account node".
type world struct {
	runs    map[string]bool
	proxies map[string][2]string
}

func (w world) Runs(node, ns, sa string) bool { return w.runs[node+" "+ns+"/"+sa] }

func (w world) Proxy(ns, sa, pod, uid string) (string, bool) {
	p, ok := w.proxies[ns+"/"+pod+"/"+uid]
	return p[1], ok && p[0] == sa
}

func TestDecide(t *testing.T) {
	here := world{
		runs: map[string]bool{"n1 shop/web": true},
		proxies: map[string][2]string{
			"ambit-system/z1/u1": {"ambit-ztunnel", "n1"}, "ambit-system/z2/u2": {"ambit-ztunnel", "n2"}, "ambit-system/z3/u3": {"ambit-ztunnel", ""},
		},
	}
	node := auth.Caller{Namespace: "ambit-system", ServiceAccount: "ambit-ztunnel", Node: "n1", Pod: "z1", PodUID: "u1"}
	with := func(edit func(*auth.Caller)) auth.Caller {
		c := node
		edit(&c)
		return c
	}
	for _, tc := range []struct {
		name   string
		caller auth.Caller
		asks   string
		want   spiffe.ID
		reason Reason
	}{
		{"itself", node, "", spiffe.ID{TrustDomain: "cluster.local", Namespace: "ambit-system", ServiceAccount: "ambit-ztunnel"}, ""},
		{"a pod on its node", node, web.String(), web, ""},
		{"token names no node", with(func(c *auth.Caller) { c.Node = "" }), web.String(), web, ""},
		{"itself, not a node", auth.Caller{Namespace: "shop", ServiceAccount: "web"}, "", web, ""},
		{"nobody", auth.Caller{}, "", spiffe.ID{}, ReasonMalformed},
		{"not an identity", node, "spiffe://x", spiffe.ID{}, ReasonMalformed},
		{"path tricks", node, "spiffe://cluster.local/ns/shop/sa/../sa/web", spiffe.ID{}, ReasonMalformed},
		{"dots", node, "spiffe://cluster.local/ns/../sa/web", spiffe.ID{}, ReasonMalformed},
		{"escapes", node, "spiffe://cluster.local/ns/shop/sa/w%65b", spiffe.ID{}, ReasonMalformed},
		{"a query", node, web.String() + "?x=y", spiffe.ID{}, ReasonMalformed},
		{"a user", node, "spiffe://x@cluster.local/ns/shop/sa/web", spiffe.ID{}, ReasonMalformed},
		{"a byte of zero", node, web.String() + "\x00", spiffe.ID{}, ReasonMalformed},
		{"not a node's account", with(func(c *auth.Caller) { c.Namespace = "shop" }), web.String(), spiffe.ID{}, ReasonNotTrusted},
		{"an application on the node", auth.Caller{Namespace: "shop", ServiceAccount: "web", Node: "n1", Pod: "web", PodUID: "w"}, web.String(), spiffe.ID{}, ReasonNotTrusted},
		{"another mesh", node, "spiffe://other/ns/shop/sa/web", spiffe.ID{}, ReasonTrustDomain},
		{"by certificate", auth.Caller{Namespace: "ambit-system", ServiceAccount: "ambit-ztunnel"}, web.String(), spiffe.ID{}, ReasonNoPod},
		{"no uid", with(func(c *auth.Caller) { c.PodUID = "" }), web.String(), spiffe.ID{}, ReasonNoPod},
		{"replayed after its pod", with(func(c *auth.Caller) { c.PodUID = "u0" }), web.String(), spiffe.ID{}, ReasonCallerGone},
		{"another proxy's pod", with(func(c *auth.Caller) { c.Pod = "z2" }), web.String(), spiffe.ID{}, ReasonCallerGone},
		{"pod without a node", with(func(c *auth.Caller) { c.Node, c.Pod, c.PodUID = "", "z3", "u3" }), web.String(), spiffe.ID{}, ReasonNoNode},
		{"pod on another node", with(func(c *auth.Caller) { c.Pod, c.PodUID = "z2", "u2" }), web.String(), spiffe.ID{}, ReasonCallerElsewhere},
		{"on another node", with(func(c *auth.Caller) { c.Node, c.Pod, c.PodUID = "n2", "z2", "u2" }), web.String(), spiffe.ID{}, ReasonNotResident},
		{"nowhere", node, "spiffe://cluster.local/ns/shop/sa/cart", spiffe.ID{}, ReasonNotResident},
	} {
		got, no := decide(tc.caller, tc.asks, "cluster.local", []string{"ambit-system/ambit-ztunnel"}, here)
		if got != tc.want || (no == nil) != (tc.reason == "") || no != nil && no.reason != tc.reason {
			t.Errorf("%s: %v %v", tc.name, got, no)
		}
	}
}
