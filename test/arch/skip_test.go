package arch_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestSkips: a test is skipped for a reason that something can require to be met, or not at all. test/cluster is a module of its
// own, and skips what is not asked for by its own name.
func TestSkips(t *testing.T) {
	skip := regexp.MustCompile(`\.(Skip|Skipf|SkipNow)\(|\btesting\.Short\(`)
	seen := 0
	for _, s := range sources(t) {
		found := skip.FindAllString(s.text, -1)
		switch {
		case within(s.path, "test/need", "test/cluster"):
			seen += len(found)
		case len(found) > 0:
			t.Errorf("%s: %s: what a test needs is said in test/need", s.path, found[0])
		}
	}
	if seen != 2 {
		t.Errorf("tests are skipped in %d places, want one of this module and one of test/cluster", seen)
	}
	if short := regexp.MustCompile(`[ "]-(test\.)?short\b`).FindString(runners(t)); short != "" {
		t.Errorf("tests are run with%s, which skips without a reason", short)
	}
}

// TestRequirements: whatever a test may be skipped for is required where the tests are run, and only what exists is required.
func TestRequirements(t *testing.T) {
	var needed, required []string
	for _, m := range regexp.MustCompile(`(?m)^\t\w+ +Requirement += "(\w+)"`).FindAllStringSubmatch(read(t, "test/need/need.go"), -1) {
		needed = append(needed, m[1])
	}
	for _, m := range regexp.MustCompile(`\bAMBIT_TEST_REQUIRE=([\w,]+)`).FindAllStringSubmatch(runners(t), -1) {
		required = append(required, strings.Split(m[1], ",")...)
	}
	if len(needed) < 5 {
		t.Errorf("only %d requirements found: has the way of naming them changed?", len(needed))
	}
	for _, n := range needed {
		if !slices.Contains(required, n) {
			t.Errorf("nothing requires %q: tests that need it may be skipped everywhere", n)
		}
	}
	for _, r := range required {
		if r != "cluster" && !slices.Contains(needed, r) {
			t.Errorf("AMBIT_TEST_REQUIRE has %q, which no test needs", r)
		}
	}
}

// TestRunNames: a pattern of tests to run that matches none passes, as if they had been skipped.
func TestRunNames(t *testing.T) {
	var tests strings.Builder
	for _, s := range sources(t) {
		if s.test {
			tests.WriteString(s.text)
		}
	}
	seen := 0
	for _, m := range regexp.MustCompile(`-(?:test\.)?run '?\^?(Test[\w|]+)`).FindAllStringSubmatch(runners(t), -1) {
		for name := range strings.SplitSeq(m[1], "|") {
			seen++
			if !strings.Contains(tests.String(), "\nfunc "+name) {
				t.Errorf("no test has the name %s, which is asked for", name)
			}
		}
	}
	if seen < 3 {
		t.Errorf("only %d tests are asked for by name: has the way of asking changed?", seen)
	}
}

// runners are the files that run tests.
func runners(t *testing.T) string {
	t.Helper()
	return read(t, "Makefile") + read(t, ".ci/run") + read(t, "test/vm/*") + read(t, "test/cluster/apiserver.go")
}
