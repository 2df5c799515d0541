// Package sockets makes the sockets that live in pods' network namespaces: the mesh's listeners, and the ones that a ztunnel
// connects with. It answers how such a socket must look, marks each for the kernel programs, and checks the ones that come
// back. It passes nothing on (agent/handoff does), knows no pods, and never reads, writes, accepts or connects.
//
// All functions may be called from any goroutine.
package sockets

import (
	"errors"
	"fmt"

	"github.com/ambit-mesh/ambit/agent/api"
	"github.com/ambit-mesh/ambit/agent/netns"
	"golang.org/x/sys/unix"
)

// Backlog is how many connections may wait for a ztunnel, bounded by net.core.somaxconn (4096 by default). It is what rides
// out a ztunnel's restart.
const Backlog = 4096

// ErrPortInUse: another socket in the pod's namespace has a port of the mesh: an application's, or a listener that a ztunnel
// still holds and has not returned.
var ErrPortInUse = errors.New("a port of the mesh is in use in the pod")

// Tagger marks sockets for the kernel programs. agent/datapath implements it.
type Tagger interface {
	// TagListener marks a socket that serves one of the mesh's ports; it happens before bind.
	TagListener(fd int, kind api.ListenerKind) error
	// TagOutgoing marks a socket that a ztunnel connects with.
	TagOutgoing(fd int) error
}

// Port is where a listener of that kind is bound.
func Port(kind api.ListenerKind) (uint16, error) {
	switch kind {
	case api.ListenerKind_OUTBOUND:
		return 15001, nil
	case api.ListenerKind_INBOUND:
		return 15006, nil
	case api.ListenerKind_HBONE:
		return 15008, nil
	case api.ListenerKind_DNS_TCP, api.ListenerKind_DNS_UDP:
		return 15053, nil
	default:
		return 0, fmt.Errorf("listener kind %d has no port", kind)
	}
}

func socketType(kind api.ListenerKind) int {
	if kind == api.ListenerKind_DNS_UDP {
		return unix.SOCK_DGRAM
	}
	return unix.SOCK_STREAM
}

// Listen makes a listener of each kind inside the namespace, in order: all, or an error and none. One socket serves both
// families; where the namespace cannot make IPv6 sockets it is IPv4 only.
func Listen(h *netns.Handle, tag Tagger, kinds []api.ListenerKind) (api.Fds, error) {
	var fds api.Fds
	err := h.Do(func() error {
		for _, kind := range kinds {
			fd, err := listen(tag, kind)
			if err != nil {
				return fmt.Errorf("listener %s: %w", kind, err)
			}
			fds = append(fds, fd)
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, fds.Close())
	}
	return fds, nil
}

// listen makes one listener in the calling thread's namespace. What package net would do besides is not wanted: no MPTCP, no
// SO_REUSEPORT (the old and the new ztunnel share the very same socket).
func listen(tag Tagger, kind api.ListenerKind) (int, error) {
	port, err := Port(kind)
	if err != nil {
		return -1, err
	}
	family := unix.AF_INET6
	flags := socketType(kind) | unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK
	fd, err := unix.Socket(family, flags, 0)
	if errors.Is(err, unix.EAFNOSUPPORT) {
		family = unix.AF_INET
		fd, err = unix.Socket(family, flags, 0)
	}
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	if err := setUpListener(fd, family, port, tag, kind); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func setUpListener(fd, family int, port uint16, tag Tagger, kind api.ListenerKind) error {
	var address unix.Sockaddr = &unix.SockaddrInet4{Port: int(port)}
	if family == unix.AF_INET6 {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0); err != nil {
			return fmt.Errorf("IPV6_V6ONLY: %w", err)
		}
		address = &unix.SockaddrInet6{Port: int(port)}
	}
	stream := socketType(kind) == unix.SOCK_STREAM
	if stream {
		// Connections of an earlier enrolment may still be in TIME_WAIT. For UDP it would let two share the port.
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return fmt.Errorf("SO_REUSEADDR: %w", err)
		}
	}
	if err := tag.TagListener(fd, kind); err != nil { // the bind hook refuses our ports to untagged sockets
		return err
	}
	if err := unix.Bind(fd, address); err != nil {
		if errors.Is(err, unix.EADDRINUSE) {
			return fmt.Errorf("%w: %d", ErrPortInUse, port)
		}
		return fmt.Errorf("bind to port %d: %w", port, err)
	}
	if stream {
		if err := unix.Listen(fd, Backlog); err != nil {
			return fmt.Errorf("listen: %w", err)
		}
	}
	return nil
}

// Outgoing makes n sockets inside the namespace for a ztunnel to connect with: all, or an error and none.
func Outgoing(h *netns.Handle, tag Tagger, kind api.SocketKind, n int) (api.Fds, error) {
	fds := make(api.Fds, 0, n)
	err := h.Do(func() error {
		for range n {
			fd, err := outgoing(tag, kind)
			if err != nil {
				return fmt.Errorf("socket %s: %w", kind, err)
			}
			fds = append(fds, fd)
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, fds.Close())
	}
	return fds, nil
}

func outgoing(tag Tagger, kind api.SocketKind) (int, error) {
	family, socketType := unix.AF_INET, unix.SOCK_STREAM
	if kind == api.SocketKind_TCP6 || kind == api.SocketKind_UDP6 {
		family = unix.AF_INET6
	}
	if kind == api.SocketKind_UDP4 || kind == api.SocketKind_UDP6 {
		socketType = unix.SOCK_DGRAM
	}
	fd, err := unix.Socket(family, socketType|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("make: %w", err)
	}
	if socketType == unix.SOCK_STREAM {
		// The bind that presents a client's address must not take a port; nor would a plain one to port 0.
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
		if err != nil {
			err = fmt.Errorf("IP_BIND_ADDRESS_NO_PORT: %w", err)
		}
	}
	if err == nil {
		err = tag.TagOutgoing(fd)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}
