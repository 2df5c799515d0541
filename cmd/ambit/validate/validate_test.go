package validate

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const bad = `apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio.io/dataplane-mod: ambient}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: p, namespace: shop}
spec:
  action: DENNY
`

func run(t *testing.T, in string, args ...string) (string, error) {
	t.Helper()
	cmd := Command()
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SetIn(strings.NewReader(in))
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	cmd.SetArgs(args)
	err := cmd.Execute()
	return out.String(), err
}

func TestCommand(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	file := write("a/bad.yaml", bad)
	write("a/.hidden.yaml", "a: [")
	write("a/notes.txt", "no manifest")
	write("ok/ok.json", `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"a"}}`)
	twice := write("twice.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: a}\n")
	want := file + ":3: warning: Namespace//shop: metadata.labels[istio.io/dataplane-mod]: istio.io/dataplane-mod is not known: it does nothing; did you mean \"istio.io/dataplane-mode\"?\n" +
		file + ":9: error: AuthorizationPolicy/shop/p: spec.action: unknown value \"DENNY\"; did you mean \"DENY\"?\n"
	want = strings.Replace(want, "Namespace//shop", "Namespace/shop", 1)
	for _, tc := range []struct {
		name    string
		in      string
		args    []string
		out     string
		failure string
	}{
		{"folder", "", []string{"-f", filepath.Join(dir, "a")}, want, "1 error and 1 warning in 1 file"},
		{"quiet", "", []string{"-q", file}, want[strings.Index(want, "\n")+1:], "1 error and 0 warnings in 1 file"},
		{"good", "", []string{"-f", filepath.Join(dir, "ok")}, "1 object in 1 file: no errors, 0 warnings\n", ""},
		{"standard input", "a: [", []string{"-f", "-"}, "stdin:1: error: not YAML: did not find expected node content\n", "1 error and 0 warnings in 1 file"},
		{"warnings only", strings.Split(bad, "---")[0], []string{"-f", "-", "--strict"}, "", "0 errors and 1 warning in 1 file"},
		{"twice", "", []string{"-f", twice}, twice + ":7: error: Pod//a: metadata.name: same object as in line 1\n", "1 error"},
		{"nothing there", "", []string{"-f", filepath.Join(dir, "none")}, "", "no such file"},
		{"nothing given", "", nil, "", "nothing to validate"},
		{"no manifests", "", []string{t.TempDir()}, "", "no .yaml"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out, err := run(t, tc.in, tc.args...)
			if tc.name == "twice" {
				tc.out = strings.Replace(tc.out, "Pod//a", "Pod/a", 1)
			}
			if tc.out != "" && out != tc.out {
				t.Errorf("got\n%s\nwant\n%s", out, tc.out)
			}
			if tc.failure == "" && err != nil || tc.failure != "" && (err == nil || !strings.Contains(err.Error(), tc.failure)) {
				t.Errorf("got %v, want %q", err, tc.failure)
			}
		})
	}
}

func TestJSON(t *testing.T) {
	out, err := run(t, bad, "-f", "-", "-o", "json")
	if err == nil {
		t.Error("no error")
	}
	var got []result
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || got[0].File != "stdin" || len(got[0].Objects) != 2 || got[0].Objects[1].Findings[0].Line != 9 || got[0].Objects[1].Findings[0].Field != "spec.action" {
		t.Errorf("got %+v", got)
	}
}
