// Package apitest helps tests that speak the hand-off protocol. It answers how two ends in one process meet without a path
// in the file system, and whether a test leaked descriptors. Only tests import it; its functions need no particular goroutine.
package apitest

import (
	"fmt"
	"net"
	"os"
	"testing"

	"github.com/ambit-mesh/ambit/agent/api"
	"golang.org/x/sys/unix"
)

// Pair is two connected ends, closed when the test ends.
func Pair(t testing.TB) (a, b *api.Conn) {
	t.Helper()
	left, right := RawPair(t)
	return api.NewConn(left), api.NewConn(right)
}

// RawPair is two connected sockets beneath the protocol, closed when the test ends.
func RawPair(t testing.TB) (a, b *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]*net.UnixConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), fmt.Sprintf("end %d", i))
		c, err := net.FileConn(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		ends[i] = c.(*net.UnixConn)
	}
	return ends[0], ends[1]
}

// OpenFds counts this process's open descriptors.
func OpenFds(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries) - 1 // the one that read the directory
}
