// Package netnstest answers how a test gets a network namespace of its own, and what becomes of it without root. Only tests
// import it; its functions need no particular goroutine.
package netnstest

import (
	"testing"

	"github.com/ambit-mesh/ambit/agent/netns"
	"github.com/ambit-mesh/ambit/test/need"
)

// New is a network namespace with nothing in it but a loopback device that is down, and its cookie. It ends with the test.
func New(t testing.TB) (h *netns.Handle, cookie uint64) {
	t.Helper()
	need.Root(t, "makes network namespaces")
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
