package dump_test

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ambit-mesh/ambit/ztunnel/state"
	"github.com/ambit-mesh/ambit/ztunnel/state/dump"
	"github.com/ambit-mesh/ambit/ztunnel/state/statetest"
)

// TestRoundTrip dumps and restores each state of the scenarios of route and policy: nothing that they decide by is lost.
func TestRoundTrip(t *testing.T) {
	files, err := filepath.Glob("../../*/testdata/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	states := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for block := range strings.SplitSeq(string(text), "\n\n") {
			lines := strings.Split(strings.TrimSpace(block), "\n")
			for len(lines) > 0 && strings.HasPrefix(lines[0], "#") {
				lines = lines[1:]
			}
			if len(lines) == 0 || lines[0] != "state" {
				continue
			}
			var cfg state.Config
			var objects []string
			for _, l := range lines[1:] {
				if strings.HasPrefix(l, " ") {
					objects = append(objects, l)
				} else {
					break
				}
			}
			u, err := statetest.Parse(&cfg, objects)
			if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			states++
			roundTrip(t, state.NewStore(cfg).Apply(u))
		}
	}
	if states < 5 {
		t.Errorf("only %d states found: has the form of the scenarios changed?", states)
	}
}

func roundTrip(t *testing.T, snap *state.Snapshot) {
	t.Helper()
	want := dump.Of(snap)
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var doc dump.Document
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	back, err := doc.Restore()
	if err != nil {
		t.Fatal(err)
	}
	got := dump.Of(back)
	got.Snapshot.Version = want.Snapshot.Version
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("lost on the way:\n%s", diff)
	}
}

// TestShape pins what istioctl reads.
func TestShape(t *testing.T) {
	p := &state.Policy{Key: state.Key{Namespace: "shop", Name: "p"}, Scope: state.ScopeSelector, Rules: []state.Rule{{Clauses: []state.Clause{{
		Matches: []state.Match{{
			Principals:    []state.StringMatch{{Op: state.OpExact, Value: "td/ns/a/sa/b"}},
			NotNamespaces: []state.StringMatch{{Op: state.OpPresence}}, SourceIPs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
			DestinationPorts: []uint16{80},
		}},
	}}}}}
	snap := state.NewStore(state.Config{}).Apply(&state.Update{Policies: []*state.Policy{p}})
	text, err := json.Marshal(dump.Of(snap).Policies)
	if err != nil {
		t.Fatal(err)
	}
	want := `[{"name":"p","namespace":"shop","scope":"WorkloadSelector","action":"Deny","rules":[[[{"notNamespaces":[{"Presence":[]}],` +
		`"principals":[{"Exact":"td/ns/a/sa/b"}],"sourceIps":["10.0.0.0/8"],"destinationPorts":[80]}]]]}]`
	if string(text) != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
}

// FuzzRestore: a file from anywhere is restored or refused, never a panic.
func FuzzRestore(f *testing.F) {
	f.Add(`{"workloads":[{"uid":"a","protocol":"HBONE","workloadIps":["10.0.0.1"],"services":["a/b"]}]}`)
	f.Add(`{"services":[{"namespace":"a","hostname":"b","vips":["n/1.2.3.4"],"waypoint":{"destination":"/1.1.1.1"}}]}`)
	f.Add(`{"policies":[{"name":"p","scope":"Global","action":"Deny","rules":[[[{"principals":[{"Presence":[]}]}]]]}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		var d dump.Document
		if json.Unmarshal([]byte(text), &d) != nil {
			return
		}
		if snap, err := d.Restore(); err == nil {
			dump.Of(snap)
		}
	})
}
