// Package netnstest answers how a test gets a network namespace of its own, and what becomes of it without root. Only tests
// import it; its functions need no particular goroutine.
package netnstest

import (
	"os"
	"strings"
	"testing"

	"github.com/ambit-mesh/ambit/agent/netns"
)

// NeedRoot goes on as root. Otherwise it skips the test, or fails it where AMBIT_TEST_REQUIRE asks for root. what names what
// root is needed for.
func NeedRoot(t testing.TB, what string) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if strings.Contains(os.Getenv("AMBIT_TEST_REQUIRE"), "root") {
		t.Fatalf("this test needs root: it %s", what)
	}
	t.Skipf("this test needs root: it %s", what)
}

// New is a network namespace with nothing in it but a loopback device that is down, and its cookie. It ends with the test.
func New(t testing.TB) (h *netns.Handle, cookie uint64) {
	t.Helper()
	NeedRoot(t, "makes network namespaces")
	h, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	if cookie, err = h.Cookie(); err != nil {
		t.Fatal(err)
	}
	return h, cookie
}
