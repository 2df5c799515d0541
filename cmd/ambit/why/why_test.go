package why_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ambit-mesh/ambit/cmd/ambit/why"
	"github.com/ambit-mesh/ambit/cmd/ambit/ztunnelconfig"
	"github.com/ambit-mesh/ambit/ztunnel/state"
	"github.com/ambit-mesh/ambit/ztunnel/state/dump"
	"github.com/ambit-mesh/ambit/ztunnel/state/statetest"
	"github.com/spf13/cobra"
)

// mesh is a shop whose cart nobody of the legacy namespace may reach.
const mesh = `
  node n1
  workload web  ns=shop   ip=10.0.0.1 node=n1 sa=web
  workload old  ns=legacy ip=10.0.0.3 node=n1 sa=old
  workload cart ns=shop   ip=10.0.1.2 node=n2 sa=cart svc=shop/cart.shop.svc.cluster.local:80>8080
  service  shop/cart.shop.svc.cluster.local vip=10.9.0.1 ports=80
  policy   shop/no-legacy deny from-ns=legacy
`

// write dumps the mesh into a file.
func write(t *testing.T) string {
	t.Helper()
	var cfg state.Config
	var lines []string
	for l := range strings.SplitSeq(strings.TrimSpace(mesh), "\n") {
		lines = append(lines, "  "+strings.TrimSpace(l))
	}
	u, err := statetest.Parse(&cfg, lines)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(dump.Of(state.NewStore(cfg).Apply(u)))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "dump.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func run(t *testing.T, cmd *cobra.Command, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

func TestWhy(t *testing.T) {
	file := write(t)
	for _, tc := range []struct {
		name string
		args []string
		want why.Answer // fields that are set must be so
		err  string
	}{
		{name: "by name, allowed", args: []string{"shop/web", "cart:80"}, want: why.Answer{
			Plan: "hbone", Route: "ToWorkload", Dial: "10.0.1.2:15008",
			Authority: "10.0.1.2:8080", Verdict: "allow", Reason: "NoPolicy", Identity: "spiffe://cluster.local/ns/shop/sa/web",
		}},
		{name: "from another namespace, denied", args: []string{"legacy/old", "cart.shop:80"}, want: why.Answer{
			Plan:    "hbone",
			Verdict: "deny", Reason: "ExplicitDeny", Policy: "shop/no-legacy",
		}},
		{name: "by address", args: []string{"legacy/old", "10.0.1.2:8080"}, want: why.Answer{Verdict: "deny", Policy: "shop/no-legacy"}},
		{name: "by pod", args: []string{"shop/web", "shop/cart:8080"}, want: why.Answer{Verdict: "allow", Peer: "shop/cart"}},
		{name: "no such port", args: []string{"shop/web", "cart:81"}, want: why.Answer{Plan: "refuse"}},
		{name: "outside", args: []string{"shop/web", "192.0.2.1:443"}, want: why.Answer{Plan: "direct", Route: "Unknown"}},
		{name: "nobody", args: []string{"none", "shop/cart:8080", "--client-ip", "192.0.2.7"}, want: why.Answer{Verdict: "allow", Reason: "NoPolicy"}},
		{name: "unknown source", args: []string{"shop/nobody", "cart:80"}, err: "no workload"},
		{name: "unknown service", args: []string{"shop/web", "nothing:80"}, err: "no service"},
		{name: "no port", args: []string{"shop/web", "cart"}, err: "want ip:port"},
		{name: "bad port", args: []string{"shop/web", "cart:http"}, err: "port"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out, err := run(t, why.Command(), append(tc.args, "--dump", file, "-o", "json")...)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Errorf("got %v, want an error with %q", err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got, want map[string]any
			text, _ := json.Marshal(tc.want)
			if json.Unmarshal([]byte(out), &got) != nil || json.Unmarshal(text, &want) != nil {
				t.Fatalf("not JSON: %s", out)
			}
			for k, v := range want {
				if v != "" && k != "snapshot" && got[k] != v {
					t.Errorf("%s = %v, want %v\n%s", k, got[k], v, out)
				}
			}
		})
	}
}

func TestText(t *testing.T) {
	out, err := run(t, why.Command(), "legacy/old", "cart.shop:80", "--dump", write(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"decision     deny (ExplicitDeny)", "policy       shop/no-legacy", "plan         hbone (ToWorkload)"} {
		if !strings.Contains(out, part) {
			t.Errorf("no %q in\n%s", part, out)
		}
	}
}

// TestTables asks a ztunnel's admin port, as far as the command can tell.
func TestTables(t *testing.T) {
	text, err := os.ReadFile(write(t))
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/config_dump" {
			http.NotFound(w, r)
			return
		}
		w.Write(text)
	}))
	defer srv.Close()
	for name, part := range map[string]string{
		"workloads": "10.0.1.2", "services": "1/1", "policies": "no-legacy", "certificates": "IDENTITY", "connections": "DIRECTION", "all": "10.9.0.1",
	} {
		for _, format := range []string{"text", "json", "yaml"} {
			out, err := run(t, ztunnelconfig.Command(), name, "--dump", srv.URL, "-o", format)
			if err != nil || format == "text" && !strings.Contains(out, part) {
				t.Errorf("%s as %s: %v\n%s", name, format, err, out)
			}
		}
	}
	if _, err := run(t, ztunnelconfig.Command(), "workloads", "--dump", srv.URL+"/nothing"); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("a wrong path: %v", err)
	}
}
