package validate

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ambit-mesh/ambit/controller/strict"
)

var update = flag.Bool("update", false, "rewrite the expected findings")

// TestFindings: each testdata/NAME.yaml with everything there is to say about it, in NAME.txt.
func TestFindings(t *testing.T) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) < 8 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var got strings.Builder
			for doc, err := range strict.Read(text) {
				if err != nil {
					t.Fatal(err)
				}
				r := Document(doc, Settings{})
				fmt.Fprintf(&got, "%d: %s\n", r.Line, r.Object)
				for _, f := range r.Findings {
					fmt.Fprintf(&got, "  %d: %s: %s\n", f.Line, f.Severity, f)
				}
			}
			golden := strings.TrimSuffix(file, ".yaml") + ".txt"
			if *update {
				if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got.String() != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got.String(), want)
			}
		})
	}
}
