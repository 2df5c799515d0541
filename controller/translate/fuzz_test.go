package translate

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/ambit-mesh/ambit/controller/objects"
	"github.com/ambit-mesh/ambit/controller/source/manifest"
)

// FuzzObjects: whatever decodes translates without a panic, twice and away again, and no ALLOW or DENY holds an empty match,
// which nodes take for "never".
func FuzzObjects(f *testing.F) {
	files, err := filepath.Glob("testdata/*.in.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		items, _ := manifest.Decode("fuzz", data)
		var add, drop []objects.Change
		for _, it := range items {
			add = append(add, objects.Change{Key: it.Key, Object: it.Object})
			drop = append(drop, objects.Change{Key: it.Key})
		}
		tr := New(Settings{PublishDryRun: true})
		tr.Apply(add)
		for name, p := range tr.Resources().Policies {
			for _, g := range p.Groups {
				for _, r := range g.Rules {
					if len(r.Matches) == 0 {
						t.Fatalf("%s has rules that always match", name)
					}
					for _, m := range r.Matches {
						if isEmpty(m) {
							t.Fatalf("%s has an empty match", name)
						}
					}
				}
			}
		}
		if d := tr.Apply(add); !d.Empty() {
			t.Fatalf("the same objects again changed %d", len(d.Addresses)+len(d.Policies)+len(d.Statuses))
		}
		tr.Apply(drop)
		if r := tr.Resources(); !r.Empty() {
			t.Fatalf("left behind: %v", r)
		}
		for _, v := range []reflect.Value{reflect.ValueOf(*tr), reflect.ValueOf(tr.in), reflect.ValueOf(tr.in.targets), reflect.ValueOf(tr.in.vips)} {
			for i := range v.NumField() {
				if f := v.Field(i); f.Kind() == reflect.Map && f.Len() > 0 {
					t.Fatalf("%s: %d entries left behind", v.Type().Field(i).Name, f.Len())
				}
			}
		}
	})
}
