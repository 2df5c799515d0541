// Package need says what a test cannot do without, and is the one place where a test of this module is skipped.
//
// Where that is missing the test is skipped, unless AMBIT_TEST_REQUIRE (a list with commas) names it: then it fails. Each name is
// required by some target of the Makefile, so that no test is skipped everywhere; test/arch holds both.
package need

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// A Requirement is what a test may need.
type Requirement string

// What tests need.
const (
	AsRoot    Requirement = "root"      // kernel programs, network namespaces, other users' processes
	APIServer Requirement = "apiserver" // AMBIT_TEST_KUBECONFIG
	Cgroup2   Requirement = "cgroup2"   // mounted, and its root visible
	MPTCP     Requirement = "mptcp"     // in the kernel
	NoRace    Requirement = "norace"    // a binary without the race detector, whose own memory would be measured
)

// Root goes on as root. why says what for: it follows "it".
func Root(t testing.TB, why string) {
	t.Helper()
	That(t, os.Geteuid() == 0, AsRoot, "it "+why)
}

// That goes on if what is needed is there. Otherwise it skips the test, or fails it where that is required.
func That(t testing.TB, there bool, what Requirement, why string) {
	t.Helper()
	switch {
	case there:
	case required(os.Getenv("AMBIT_TEST_REQUIRE"), what):
		t.Fatalf("this test needs %s, which AMBIT_TEST_REQUIRE promises: %s", what, why)
	default:
		t.Skipf("this test needs %s: %s", what, why)
	}
}

func required(list string, what Requirement) bool {
	return slices.Contains(strings.Split(list, ","), string(what))
}
