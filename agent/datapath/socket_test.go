package datapath

import (
	"errors"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// sock is an application's raw socket, for what package net cannot say.
type sock struct {
	t  testing.TB
	fd int
	v6 bool // AF_INET6
}

func (p *pod) socket(v6 bool, kind, proto int) sock {
	p.t.Helper()
	s, err := p.trySocket(v6, kind, proto)
	if err != nil {
		p.t.Fatal(err)
	}
	return s
}

func (p *pod) trySocket(v6 bool, kind, proto int) (s sock, err error) {
	domain := unix.AF_INET
	if v6 {
		domain = unix.AF_INET6
	}
	s = sock{t: p.t, v6: v6}
	err = p.ns.Do(func() (err error) {
		s.fd, err = unix.Socket(domain, kind|unix.SOCK_CLOEXEC, proto)
		return err
	})
	if err == nil {
		fd := s.fd
		p.t.Cleanup(func() { unix.Close(fd) })
	}
	return s, err
}

func (s sock) addr(a netip.AddrPort) unix.Sockaddr { return sockaddr(a, !s.v6) }

func (s sock) connect(a netip.AddrPort) error { return unix.Connect(s.fd, s.addr(a)) }

// start begins to connect and does not wait.
func (s sock) start(a netip.AddrPort) error {
	s.t.Helper()
	if err := unix.SetNonblock(s.fd, true); err != nil {
		s.t.Fatal(err)
	}
	if err := s.connect(a); !errors.Is(err, unix.EINPROGRESS) {
		return err
	}
	return nil
}

// finish waits for start.
func (s sock) finish() error {
	s.t.Helper()
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLOUT}}, int(patience.Milliseconds()))
	if err != nil || n == 0 {
		s.t.Fatalf("connect: %d ready, %v", n, err)
	}
	code, err := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		s.t.Fatal(err)
	}
	if code != 0 {
		return unix.Errno(code)
	}
	return nil
}

func addrPort(t testing.TB, sa unix.Sockaddr) netip.AddrPort {
	t.Helper()
	switch a := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port))
	}
	t.Fatalf("address %T", sa)
	return netip.AddrPort{}
}

func (s sock) peer() netip.AddrPort {
	s.t.Helper()
	return addrPort(s.t, must[unix.Sockaddr](s.t)(unix.Getpeername(s.fd)))
}

func (s sock) name() netip.AddrPort {
	s.t.Helper()
	return addrPort(s.t, must[unix.Sockaddr](s.t)(unix.Getsockname(s.fd)))
}

// read reads to the end of a line.
func (s sock) line() string {
	s.t.Helper()
	unix.SetNonblock(s.fd, false)
	tv := unix.NsecToTimeval(patience.Nanoseconds())
	unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv)
	var out []byte
	b := make([]byte, 1)
	for {
		n, err := unix.Read(s.fd, b)
		if err != nil || n == 0 {
			s.t.Fatalf("read: %v after %q", err, out)
		}
		if b[0] == '\n' {
			return string(out)
		}
		out = append(out, b[0])
	}
}

func ap(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }

func mapped(a netip.AddrPort) netip.AddrPort { return ap(netip.AddrFrom16(a.Addr().As16()), a.Port()) }
