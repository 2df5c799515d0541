package sockets

import (
	"fmt"
	"os"

	"github.com/ambit-mesh/ambit/agent/api"
	"github.com/ambit-mesh/ambit/agent/netns"
	"golang.org/x/sys/unix"
)

// Verify checks that a descriptor which a ztunnel returned is a listener of that kind in the namespace of that cookie. A
// ztunnel is not trusted to say so: a listener of a wrong namespace would swallow a pod's traffic without a sign.
func Verify(fd int, kind api.ListenerKind, cookie uint64) error {
	port, err := Port(kind)
	if err != nil {
		return err
	}
	got, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		return fmt.Errorf("returned listener %s: SO_NETNS_COOKIE: %w", kind, err)
	}
	if got != cookie {
		return fmt.Errorf("returned listener %s lives in namespace %d, the pod in %d", kind, got, cookie)
	}
	for option, want := range map[int]int{
		unix.SO_TYPE:       socketType(kind),
		unix.SO_ACCEPTCONN: listening(kind),
	} {
		if have, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, option); err != nil || have != want {
			return fmt.Errorf("returned listener %s: socket option %d is %d, want %d (%v)", kind, option, have, want, err)
		}
	}
	address, err := unix.Getsockname(fd)
	if err != nil {
		return fmt.Errorf("returned listener %s: getsockname: %w", kind, err)
	}
	if have := portOf(address); have != port {
		return fmt.Errorf("returned listener %s is bound to port %d, want %d", kind, have, port)
	}
	return nil
}

func listening(kind api.ListenerKind) int {
	if socketType(kind) == unix.SOCK_STREAM {
		return 1
	}
	return 0
}

func portOf(a unix.Sockaddr) uint16 {
	switch a := a.(type) {
	case *unix.SockaddrInet4:
		return uint16(a.Port)
	case *unix.SockaddrInet6:
		return uint16(a.Port)
	default:
		return 0
	}
}

// Namespace opens the network namespace that a socket lives in, which is how an agent that starts again finds the
// namespaces of the pods whose listeners a ztunnel returned.
func Namespace(fd int) (*netns.Handle, error) {
	ns, err := unix.IoctlRetInt(fd, unix.SIOCGSKNS)
	if err != nil {
		return nil, fmt.Errorf("namespace of a socket: %w", err)
	}
	unix.CloseOnExec(ns) // the kernel makes it so already; a descriptor must never reach a child
	return netns.FromFile(os.NewFile(uintptr(ns), "namespace of a socket"))
}

// Reset takes every connection that waits at a listener and resets it, and throws away every datagram that waits at a UDP
// socket; it answers how many. The listener stays.
func Reset(fd int, kind api.ListenerKind) int {
	n := 0
	for ; n < 2*Backlog; n++ { // a flood must not keep the caller
		if socketType(kind) == unix.SOCK_DGRAM {
			if _, _, err := unix.Recvfrom(fd, nil, unix.MSG_DONTWAIT|unix.MSG_TRUNC); err != nil {
				return n
			}
			continue
		}
		conn, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		if err == unix.ECONNABORTED || err == unix.EINTR {
			continue
		}
		if err != nil {
			return n
		}
		// Linger of zero: close sends RST instead of FIN, so that the client sees a failure and not an empty answer.
		_ = unix.SetsockoptLinger(conn, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		unix.Close(conn)
	}
	return n
}
