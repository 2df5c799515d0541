package policy

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/ambit-mesh/ambit/controller/api/spiffe"
	"github.com/ambit-mesh/ambit/ztunnel/state"
	"github.com/ambit-mesh/ambit/ztunnel/state/statetest"
)

// TestScenarios replays testdata. A conn line is
//
//	conn from=namespace/account|plain [td=trust-domain] [src=ip] to=ip:port [workload=uid]
func TestScenarios(t *testing.T) {
	statetest.Run(t, "testdata/*.txt", func(t *testing.T, snap *state.Snapshot, command string, a *statetest.Args) string {
		if command != "conn" {
			t.Fatalf("unknown command %q", command)
		}
		return explain(Authorize(snap, parseConn(t, snap, a)))
	})
}

func parseConn(t *testing.T, snap *state.Snapshot, a *statetest.Args) Conn {
	t.Helper()
	to, err := netip.ParseAddrPort(a.Get("to", ""))
	if err != nil {
		t.Fatal(err)
	}
	c := Conn{Destination: to, Source: netip.AddrPortFrom(netip.MustParseAddr(a.Get("src", "10.9.9.9")), 40000)}
	c.Workload = a.Get("workload", "")
	if w := snap.WorkloadAt(state.NetworkAddr{IP: to.Addr()}); w != nil && c.Workload == "" {
		c.Workload = w.UID
	}
	td := a.Get("td", "cluster.local")
	if from := a.Get("from", "plain"); from != "plain" {
		ns, sa, _ := strings.Cut(from, "/")
		c.Peer = spiffe.ID{TrustDomain: td, Namespace: ns, ServiceAccount: sa}
	}
	return c
}

func explain(d Decision) string {
	out := fmt.Sprintf("%s reason=%s", d.Verdict, d.Reason)
	if d.Policy != (state.Key{}) {
		out += " policy=" + d.Policy.String()
	}
	for _, f := range d.DryRun {
		out += fmt.Sprintf("\ndry-run %s policy=%s", f.Verdict, f.Policy)
	}
	return out
}

// TestEveryReasonHasScenarioAndRow keeps the enum, the table in the package comment and the scenarios together.
func TestEveryReasonHasScenarioAndRow(t *testing.T) {
	doc, err := os.ReadFile("policy.go")
	if err != nil {
		t.Fatal(err)
	}
	scenarios := ""
	entries, err := os.ReadDir("testdata")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if text, err := os.ReadFile("testdata/" + e.Name()); err == nil {
			scenarios += string(text)
		}
	}
	comment, _, _ := strings.Cut(string(doc), "\npackage policy\n")
	for _, r := range Reasons() {
		if r == Unjudged {
			continue // what nobody decided has no situation
		}
		if !strings.Contains(comment, r.String()) {
			t.Errorf("%s has no row in the package comment", r)
		}
		if !strings.Contains(scenarios, "reason="+r.String()+"\n") && !strings.Contains(scenarios, "reason="+r.String()+" ") {
			t.Errorf("%s has no scenario", r)
		}
	}
}

func TestZeroValueDenies(t *testing.T) {
	if d := (Decision{}); d.Allowed() || d.Verdict != Deny || d.Reason != Unjudged {
		t.Fatalf("zero decision: %+v", d)
	}
	if d := Authorize(&state.Snapshot{}, Conn{}); d.Allowed() {
		t.Fatalf("empty snapshot allows: %+v", d)
	}
	if s := Reason(200).String(); s != "Unknown" {
		t.Fatalf("unknown reason is %q", s)
	}
}
