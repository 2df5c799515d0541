package arch_test

import (
	"path/filepath"
	"strings"
	"testing"

	"istio.io/api/annotation"
	"istio.io/api/label"
	meshapi "istio.io/api/mesh/v1alpha1"

	"github.com/ambit-mesh/ambit/deploy/compatibility"
)

// TestCompatibility: deploy/COMPATIBILITY.md has a row for every label, annotation and MeshConfig field that istio.io/api knows,
// and what it calls honoured is read by some program, what it calls otherwise by none.
func TestCompatibility(t *testing.T) {
	page := filepath.Join(root(t), "deploy/COMPATIBILITY.md")
	var labels, annotations, fields []string
	for _, l := range label.AllResourceLabels() {
		labels = append(labels, l.Name)
	}
	for _, a := range annotation.AllResourceAnnotations() {
		annotations = append(annotations, a.Name)
	}
	known := (&meshapi.MeshConfig{}).ProtoReflect().Descriptor().Fields()
	for i := range known.Len() {
		fields = append(fields, known.Get(i).JSONName())
	}
	var programs strings.Builder // where labels and annotations are read
	for _, s := range sources(t) {
		process, _, _ := strings.Cut(s.path, "/")
		if !s.test && !s.generated && (process == "agent" || process == "controller" || process == "ztunnel") && !strings.HasPrefix(s.path, "controller/validate/") {
			programs.WriteString(s.text)
		}
	}
	written := map[string]bool{"istio.io/reroute-virtual-interfaces": true, "networking.istio.io/exportTo": true} // read to report them
	for heading, want := range map[string][]string{"Labels": labels, "Annotations": annotations, "MeshConfig": fields} {
		rows, err := compatibility.Section(page, heading)
		if err != nil {
			t.Fatal(err)
		}
		if len(want) < 20 {
			t.Fatalf("istio.io/api has %d %s", len(want), heading)
		}
		for _, key := range want {
			if rows[key] == "" {
				t.Errorf("%s: %s is in istio.io/api and not in %s", heading, key, page)
			}
		}
		if heading == "MeshConfig" {
			continue // controller/translate knows
		}
		for key, is := range rows {
			read := strings.Contains(programs.String(), `"`+key+`"`)
			if honoured := is == compatibility.Honoured; read != honoured && !written[key] {
				t.Errorf("%s: %s is called %s; is its name in the programs? %v", heading, key, is, read)
			}
		}
	}
}
