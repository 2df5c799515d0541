package main

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "rewrite the table of install values in deploy/COMPATIBILITY.md")

// istioValues are the paths of values that Istio's charts have, each with what to do in its stead.
func istioValues(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile("ambit/files/istio-values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]string
	if err := yaml.UnmarshalStrict(text, &all); err != nil {
		t.Fatal(err)
	}
	if len(all) < 100 {
		t.Fatalf("only %d values", len(all))
	}
	return all
}

// TestIstioValues: a value of Istio's charts is refused, by its name and with what to do.
func TestIstioValues(t *testing.T) {
	c := load(t)
	refusal := func(set ...string) string {
		values, err := readValues(nil, set)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = Render(c, system, values); err == nil {
			return ""
		}
		return err.Error()
	}
	for path, say := range istioValues(t) {
		if got := refusal(path + "=x"); !strings.Contains(got, "\n  "+path+": "+say) {
			t.Errorf("%s: %q", path, got)
		}
	}
	for set, want := range map[string]string{
		"pilot.replicaCount=2":              "pilot.replicaCount: set controller.replicas",
		"pilot.env.PILOT_ENABLE_AMBIENT=1":  "pilot.env.PILOT_ENABLE_AMBIENT: not needed",
		"pilot.env.ANOTHER=1":               "pilot.env: Istio's environment is not read",
		"cni.cniConfDir=/etc":               "cni.cniConfDir: set agent.cniConfDir",
		"global.proxy.resources.limits.a=1": "global.proxy: it configures sidecars",
		"meshConfig.defaultConfig.a.b=1":    "meshConfig: write it into the ConfigMap istio",
	} {
		if got := refusal(set); !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", set, got, want)
		}
	}
	got := refusal("global.tag=x", "profile=ambient", "hub=h")
	for _, want := range []string{"global.tag", "profile"} {
		if !strings.Contains(got, want) {
			t.Errorf("of several, %s is not named: %q", want, got)
		}
	}
	if got := refusal("global.another=1", "hub=h"); got != "" {
		t.Errorf("a value for all charts of a release: %s", got)
	}
}

// TestCompatibility: the table that users read is the chart's own.
func TestCompatibility(t *testing.T) {
	const name, begin, end = "../COMPATIBILITY.md", "<!-- made by deploy/chart: -update -->\n", "<!-- end -->\n"
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), begin)
	table, after, ended := strings.Cut(rest, end)
	if !ok || !ended {
		t.Fatalf("%s has no table of values", name)
	}
	all := istioValues(t)
	var want strings.Builder
	want.WriteString("| value | the chart says |\n|---|---|\n")
	for _, path := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&want, "| `%s` | %s |\n", path, all[path])
	}
	if *update {
		if err := os.WriteFile(name, []byte(before+begin+want.String()+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if table != want.String() {
		t.Errorf("the table of %s is not that of the chart: go -C deploy/chart test . -run TestCompatibility -update", name)
	}
}

// TestRootNamespaceStays: whoever deletes the manifests keeps the namespace with the mesh's root and users' policies.
func TestRootNamespaceStays(t *testing.T) {
	dir := t.TempDir()
	if err := run("../..", dir, system, "", nil, []string{"hub=registry.example/ambit"}); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]bool{"ambit.yaml": false, "crds.yaml": true} {
		text, err := os.ReadFile(dir + "/" + file)
		if err != nil {
			t.Fatal(err)
		}
		is := false
		for part := range strings.SplitSeq(string(text), "\n---\n") {
			is = is || strings.Contains(part, "kind: Namespace\n") && strings.Contains(part, "name: istio-system\n")
		}
		if is != want {
			t.Errorf("%s has namespace istio-system: %v", file, is)
		}
	}
}
