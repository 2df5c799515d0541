package arch_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// maxLines is where a file must have been split.
const maxLines = 600

func TestFileLength(t *testing.T) {
	for _, s := range sources(t) {
		if n := strings.Count(s.text, "\n"); n > maxLines && !s.generated {
			t.Errorf("%s has %d lines: at %d it holds a second idea", s.path, n, maxLines)
		}
	}
}

// TestPackageComments: each says something, and begins as godoc wants.
func TestPackageComments(t *testing.T) {
	for _, p := range packages(t) {
		if len(p.GoFiles) == 0 {
			continue
		}
		want := "Package " + p.Name + " "
		if p.Name == "main" {
			want = "Command "
		}
		switch {
		case !strings.HasPrefix(p.Doc, want):
			t.Errorf("%s: package comment does not begin with %q", p.path(), want)
		case len(p.Doc) < len(want)+20: // go list gives the first sentence
			t.Errorf("%s: package comment says nothing: %q", p.path(), p.Doc)
		}
	}
}

// TestNamesThatSayNothing: shared code is named for what it does.
func TestNamesThatSayNothing(t *testing.T) {
	bad := []string{"util", "utils", "common", "helpers", "helper", "types", "misc", "shared", "pkg"}
	for _, p := range packages(t) {
		for part := range strings.SplitSeq(p.path(), "/") {
			if slices.Contains(bad, part) {
				t.Errorf("%s: %q says nothing", p.path(), part)
			}
		}
	}
}

// TestForbiddenWords looks for what must not be in the tree's code, each with the places where it may.
func TestForbiddenWords(t *testing.T) {
	for _, rule := range []struct {
		what  *regexp.Regexp
		tests bool // look into tests too
		may   []string
		why   string
	}{
		{regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|X` + `XX)\b`), true, nil, "do it or open an issue"},
		{regexp.MustCompile(`unix\.(Setns|Unshare)\(|syscall\.(Setns|Unshare)\(`), true, []string{"agent/netns/", "test/programs/"}, "entering namespaces has one place"},
		{regexp.MustCompile(`(?m)^func init\(\)`), false, []string{"bpf/"}, "no work before main"},
		{regexp.MustCompile(`prometheus\.(MustRegister|Register|DefaultRegisterer)\b`), false, nil, "metrics go to a registerer that was passed in"},
		{regexp.MustCompile(`slog\.(Info|Warn|Error|Debug|Default|SetDefault)\(`), false, []string{"cmd/"}, "the logger is passed in"},
	} {
		for _, s := range sources(t) {
			if s.generated || s.test && !rule.tests || within(s.path, trimSlash(rule.may)...) {
				continue
			}
			if at := rule.what.FindStringIndex(s.text); at != nil {
				line := 1 + strings.Count(s.text[:at[0]], "\n")
				t.Errorf("%s:%d: %q: %s", s.path, line, s.text[at[0]:at[1]], rule.why)
			}
		}
	}
}

func trimSlash(folders []string) (out []string) {
	for _, f := range folders {
		out = append(out, strings.TrimSuffix(f, "/"))
	}
	return out
}

// ownMetric finds names of our own metrics where they are made.
var ownMetric = regexp.MustCompile(`Name:\s*"([a-zA-Z0-9_]+)"`)

// TestMetricNames: ours begin with the process they are of; all others are Istio's.
func TestMetricNames(t *testing.T) {
	istio := []string{"istio_", "workload_manager_", "pilot_", "citadel_", "galley_"}
	seen := 0
	for _, s := range sources(t) {
		if s.test || s.generated || !strings.Contains(s.text, "prometheus.") {
			continue
		}
		for _, m := range ownMetric.FindAllStringSubmatch(s.text, -1) {
			name := m[1]
			if strings.HasSuffix(name, "_") || !strings.Contains(name, "_") {
				continue // a prefix, or a part that is given one
			}
			seen++
			process, _, _ := strings.Cut(s.path, "/")
			ours := strings.HasPrefix(name, "ambit_"+process+"_")
			theirs := slices.ContainsFunc(istio, func(p string) bool { return strings.HasPrefix(name, p) })
			if process != "test" && !ours && !theirs {
				t.Errorf("%s: metric %s: want prefix ambit_%s_", s.path, name, process)
			}
		}
	}
	if seen < 10 {
		t.Errorf("only %d metrics found: has the way of making them changed?", seen)
	}
}
