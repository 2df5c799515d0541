package arch_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/ambit-mesh/ambit/ztunnel/policy"
	"github.com/ambit-mesh/ambit/ztunnel/route"
)

// TestReasons: each reason appears in a scenario, and in the table of the package comment.
func TestReasons(t *testing.T) {
	var ofPolicy, ofRoute []string
	for _, r := range policy.Reasons() {
		if r != policy.Unjudged { // the zero value, which no answer has
			ofPolicy = append(ofPolicy, r.String())
		}
	}
	for _, r := range route.Reasons() {
		if r != route.Unresolved {
			ofRoute = append(ofRoute, r.String())
		}
	}
	for folder, reasons := range map[string][]string{"ztunnel/policy": ofPolicy, "ztunnel/route": ofRoute} {
		scenarios, docs := read(t, folder+"/testdata/*.txt"), comments(read(t, folder+"/*.go"))
		for _, r := range reasons {
			word := regexp.MustCompile(`\b` + r + `\b`)
			if !word.MatchString(scenarios) {
				t.Errorf("%s: no scenario for %s", folder, r)
			}
			if !word.MatchString(docs) {
				t.Errorf("%s: no comment explains %s", folder, r)
			}
		}
	}
}

// read joins the files of a pattern.
func read(t *testing.T, pattern string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root(t), pattern))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %d files, %v", pattern, len(files), err)
	}
	var all strings.Builder
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
	}
	return all.String()
}

// comments are the comments of Go source, with what they stand beside.
func comments(text string) string {
	var all []string
	for line := range strings.Lines(text) {
		if strings.Contains(line, "//") {
			all = append(all, line)
		}
	}
	return strings.Join(all, "")
}

var ownedRow = regexp.MustCompile("(?m)^\\| `([^`]+)` \\| [^|]+ \\| ([^ |]+) \\|")

// TestOwned: each line of deploy/OWNED.md is true, and it lists every kernel map.
func TestOwned(t *testing.T) {
	text := read(t, "deploy/OWNED.md")
	rows := ownedRow.FindAllStringSubmatch(text, -1)
	table := 0
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "| `") {
			table++
		}
	}
	if len(rows) != table || table == 0 {
		t.Errorf("%d of %d rows have the form that this test reads", len(rows), table)
	}
	listed := map[string]bool{}
	for _, r := range rows {
		listed[r[1]] = true
		if !strings.Contains(read(t, r[2]), r[1]) {
			t.Errorf("%s is not in %s", r[1], r[2])
		}
	}
	for _, m := range regexp.MustCompile(`\} (ambit_\w+) SEC\("\.maps"\)`).FindAllStringSubmatch(read(t, "bpf/lib/*.h")+read(t, "bpf/*.bpf.c"), -1) {
		if !listed[m[1]] {
			t.Errorf("map %s is not in deploy/OWNED.md", m[1])
		}
	}
}

// TestNoPlaces: nothing in the tree depends on the machine it was written on.
func TestNoPlaces(t *testing.T) {
	place := regexp.MustCompile(`/wo` + `rk/|/tmp/bash` + `_jobs`)
	for _, s := range sources(t) {
		if at := place.FindString(s.text); at != "" {
			t.Errorf("%s names %s", s.path, at)
		}
	}
}
