package statetest

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ambit-mesh/ambit/ztunnel/state"
)

// update is the -update flag of every test binary that runs scenarios.
var update = flag.Bool("update", false, "rewrite the answers in scenario files")

// Answer is what a command in a scenario file answers.
type Answer func(t *testing.T, snap *state.Snapshot, command string, a *Args) string

// Run replays the scenario files that a pattern names and compares the answers, or rewrites them with -update.
func Run(t *testing.T, pattern string, answer Answer) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("scenario files %s: %d found, %v", pattern, len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := replay(t, string(text), answer)
			if got == string(text) {
				return
			}
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			t.Errorf("answers differ; if the new ones are right, run with -update and read the diff:\n%s", firstDifference(string(text), got))
		})
	}
}

// replay returns the file with the answers given now.
func replay(t *testing.T, text string, answer Answer) string {
	t.Helper()
	var out []string
	var store *state.Store
	var cfg state.Config
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	for i := 0; i < len(lines); {
		line := strings.TrimSpace(lines[i])
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
			out = append(out, lines[i])
			i++
		case line == "state" || line == "state+":
			var block []string
			out = append(out, lines[i])
			for i++; i < len(lines) && strings.HasPrefix(lines[i], "  "); i++ {
				out = append(out, lines[i])
				if l := strings.TrimSpace(lines[i]); !strings.HasPrefix(l, "#") {
					block = append(block, lines[i])
				}
			}
			if line == "state" {
				cfg, store = state.Config{}, nil
			}
			u, err := Parse(&cfg, block)
			if err != nil {
				t.Fatal(err)
			}
			if store == nil {
				store = state.NewStore(cfg)
			}
			store.Apply(u)
		default:
			out = append(out, lines[i], "----")
			for i++; i < len(lines) && strings.TrimSpace(lines[i]) != ""; i++ { // the old answer
			}
			command, rest, _ := strings.Cut(line, " ")
			a := ParseArgs(rest)
			got := answer(t, store.Load(), command, a)
			if err := a.Unused(); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			out = append(out, strings.TrimRight(got, "\n"))
		}
	}
	return strings.Join(out, "\n") + "\n"
}

func firstDifference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range min(len(w), len(g)) {
		if w[i] != g[i] {
			from := max(0, i-3)
			return strings.Join(g[from:i], "\n") + "\n- " + w[i] + "\n+ " + g[i]
		}
	}
	return "lengths differ"
}
