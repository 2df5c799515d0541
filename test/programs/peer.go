package main

import (
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// kernelPeer is getpeername(2) of a live connection.
func kernelPeer(raw syscall.RawConn) (string, error) {
	var sa unix.Sockaddr
	var err error
	if ctlErr := raw.Control(func(fd uintptr) { sa, err = unix.Getpeername(int(fd)) }); ctlErr != nil {
		return "", ctlErr
	}
	if err != nil {
		return "", err
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port)).String(), nil
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port)).String(), nil
	}
	return "", unix.EAFNOSUPPORT
}
