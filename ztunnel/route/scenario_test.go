package route

import (
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/ambit-mesh/ambit/controller/api/spiffe"
	"github.com/ambit-mesh/ambit/ztunnel/state"
	"github.com/ambit-mesh/ambit/ztunnel/state/statetest"
)

// TestScenarios replays testdata. The commands are
//
//	flow from=workload to=ip:port [client=ip] [pick=n,n...] [avoid=workload,...]
//	arrive at=workload dialled=ip:port authority=host:port
//	spread from=workload to=ip:port     asks with every choice, and lists what is chosen how often
//
// where a workload is namespace/name, or its UID.
func TestScenarios(t *testing.T) {
	statetest.Run(t, "testdata/*.txt", func(t *testing.T, snap *state.Snapshot, command string, a *statetest.Args) string {
		switch command {
		case "flow":
			f, pick := parseFlow(t, a)
			return explain(Resolve(snap, f, pick))
		case "spread":
			f, _ := parseFlow(t, a)
			return spread(snap, f)
		case "arrive":
			dialled, err := netip.ParseAddrPort(a.Get("dialled", ""))
			if err != nil {
				t.Fatal(err)
			}
			return explainEntry(ResolveInbound(snap, Arrival{Workload: uid(a.Get("at", "")), Dialled: dialled, Authority: a.Get("authority", "")}))
		}
		t.Fatalf("unknown command %q", command)
		return ""
	})
}

func uid(name string) string {
	if strings.Contains(name, "//") || name == "" {
		return name
	}
	if !strings.Contains(name, "/") {
		name = "shop/" + name
	}
	return "Kubernetes//Pod/" + name
}

func parseFlow(t *testing.T, a *statetest.Args) (Flow, Pick) {
	t.Helper()
	to, err := netip.ParseAddrPort(a.Get("to", ""))
	if err != nil {
		t.Fatal(err)
	}
	f := Flow{Source: uid(a.Get("from", "")), Destination: to}
	f.Client = netip.AddrPortFrom(netip.MustParseAddr(a.Get("client", "10.0.0.1")), 40000)
	for _, n := range a.All("avoid") {
		f.Avoid = append(f.Avoid, uid(n))
	}
	picks := a.All("pick")
	return f, func(n int) int {
		if len(picks) == 0 {
			return 0
		}
		v, err := strconv.Atoi(picks[0])
		picks = picks[1:]
		if err != nil || v >= n {
			t.Fatalf("pick %d of %d: %v", v, n, err)
		}
		return v
	}
}

func explain(p Plan) string {
	out := fmt.Sprintf("%s reason=%s", p.Kind, p.Reason)
	add := func(k, v string) {
		if v != "" {
			out += " " + k + "=" + v
		}
	}
	if p.Dial.IsValid() || p.HostName != "" {
		add("dial", p.Dial.String())
	}
	add("hostname", p.HostName)
	add("authority", p.Authority)
	if p.Target.Port() != 0 && p.Target.String() != p.Authority {
		add("target", p.Target.String())
	}
	if p.Destination != nil {
		add("to", p.Destination.Name)
	}
	if p.Service != nil {
		add("service", p.Service.Key().String())
	}
	add("ids", ids(p.Identities))
	add("inner", ids(p.InnerIdentities))
	return out
}

func ids(list []spiffe.ID) string {
	var out []string
	for _, id := range list {
		out = append(out, id.Principal())
	}
	return strings.Join(out, ",")
}

func explainEntry(e Entry) string {
	if e.Status != 0 {
		return fmt.Sprintf("%d reason=%s", e.Status, e.Reason)
	}
	out := fmt.Sprintf("ok target=%s", e.Target)
	if e.Connect != e.Target {
		out += fmt.Sprintf(" connect=%s", e.Connect)
	}
	if e.Proxy {
		out += fmt.Sprintf(" proxy=%s", e.ProxyDestination)
	}
	if e.Service != nil {
		out += " service=" + e.Service.Key().String()
	}
	return out
}

// spread asks with every possible choice at the first pick.
func spread(snap *state.Snapshot, f Flow) string {
	count := map[string]int{}
	var order []string
	total := 1
	for i := 0; i < total; i++ {
		first := true
		p := Resolve(snap, f, func(n int) int {
			if !first {
				return 0
			}
			first, total = false, n
			return i
		})
		name := p.Reason.String()
		if p.Destination != nil {
			name = p.Destination.Name
		}
		if count[name]++; count[name] == 1 {
			order = append(order, name)
		}
	}
	var out []string
	for _, name := range order {
		out = append(out, fmt.Sprintf("%s %d/%d", name, count[name], total))
	}
	return strings.Join(out, "\n")
}

// TestEveryReasonHasScenarioAndRow keeps the enum, the tables in the comments and the scenarios together.
func TestEveryReasonHasScenarioAndRow(t *testing.T) {
	comments, scenarios := "", ""
	for _, f := range []string{"resolve.go", "inbound.go"} {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(line, "//") {
				comments += line
			}
		}
	}
	entries, err := os.ReadDir("testdata")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		text, err := os.ReadFile("testdata/" + e.Name())
		if err != nil {
			t.Fatal(err)
		}
		scenarios += string(text)
	}
	for _, r := range Reasons() {
		if r == Unresolved || r == ToWorkload {
			continue // nobody decided; and what is left over
		}
		if !strings.Contains(comments, r.String()) && !strings.HasPrefix(r.String(), "To") {
			t.Errorf("%s has no row", r)
		}
		if !strings.Contains(scenarios, "reason="+r.String()+"\n") && !strings.Contains(scenarios, "reason="+r.String()+" ") {
			t.Errorf("%s has no scenario", r)
		}
	}
}

func TestZeroValuesRefuse(t *testing.T) {
	if p := (Plan{}); p.Kind != Refuse || p.Reason != Unresolved || p.Tunnelled() {
		t.Fatalf("zero plan: %+v", p)
	}
	if p := Resolve(&state.Snapshot{}, Flow{}, func(int) int { return 0 }); p.Kind != Hold {
		t.Fatalf("empty snapshot: %+v", p)
	}
	if e := ResolveInbound(&state.Snapshot{}, Arrival{}); e.Status == 0 {
		t.Fatalf("empty snapshot admits: %+v", e)
	}
	if Kind(99).String() != "unknown" || Reason(99).String() != "Invalid" {
		t.Fatal("names of unknown values")
	}
}
