package translate

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/ambit-mesh/ambit/controller/api/plain"
	"github.com/ambit-mesh/ambit/controller/objects"
	"github.com/ambit-mesh/ambit/controller/source/manifest"
)

var update = flag.Bool("update", false, "rewrite the .out.yaml files")

// TestGolden reads testdata/*.in.yaml, whose first line may be "# settings: {...}", and compares what comes of it.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.in.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no scenarios", err)
	}
	for _, in := range files {
		t.Run(strings.TrimSuffix(filepath.Base(in), ".in.yaml"), func(t *testing.T) {
			set, changes := scenario(t, in)
			tr := New(set)
			tr.Apply(changes)
			got := render(t, tr.Resources())
			out := strings.Replace(in, ".in.yaml", ".out.yaml", 1)
			if *update {
				if err := os.WriteFile(out, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", out, diff)
			}
		})
	}
}

func scenario(t *testing.T, file string) (Settings, []objects.Change) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var set Settings
	first, _, _ := strings.Cut(string(data), "\n")
	if text, ok := strings.CutPrefix(first, "# settings: "); ok {
		if err := json.Unmarshal([]byte(text), &set); err != nil {
			t.Fatal(err)
		}
	}
	return set, parse(t, file, data)
}

func parse(t *testing.T, name string, data []byte) []objects.Change {
	t.Helper()
	items, problems := manifest.Decode(name, data)
	for _, p := range problems {
		t.Error(p)
	}
	var changes []objects.Change
	for _, it := range items {
		changes = append(changes, objects.Change{Key: it.Key, Object: it.Object})
	}
	return changes
}

// render is stable and readable: it is reviewed like code.
func render(t *testing.T, r Resources) []byte {
	t.Helper()
	out := map[string]map[string]any{}
	put := func(section, name string, v any) {
		if out[section] == nil {
			out[section] = map[string]any{}
		}
		out[section][name] = v
	}
	for name, a := range r.Addresses {
		if a.GetWorkload() != nil {
			put("workloads", name, plain.Value(a.GetWorkload()))
		} else {
			put("services", name, plain.Value(a.GetService()))
		}
	}
	for name, p := range r.Policies {
		put("policies", name, plain.Value(p))
	}
	for key, st := range r.Statuses {
		put("statuses", key.String(), st)
	}
	data, err := yaml.Marshal(out)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
