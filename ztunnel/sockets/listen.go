package sockets

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ambit-mesh/ambit/agent/api"
)

// keepAlive is what both ends of every relayed connection get (ztunnel.md 2.10).
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 180 * time.Second, Interval: 180 * time.Second, Count: 9}

// tcpListener is a listening socket that the agent made.
type tcpListener struct {
	*net.TCPListener
	port      uint16
	keepAlive bool // HBONE has its own pings
}

func newListener(l *net.TCPListener, keepAlive bool) tcpListener {
	return tcpListener{l, addrPort(l.Addr()).Port(), keepAlive}
}

// Accept waits for the next connection.
func (l tcpListener) Accept() (Accepted, error) {
	c, err := l.AcceptTCP()
	if err != nil {
		return Accepted{}, err
	}
	if l.keepAlive {
		// Cannot fail on a live socket, and one that is dead shows it at the first read.
		_ = c.SetKeepAliveConfig(keepAlive)
	}
	return Accepted{Conn: c, Client: addrPort(c.RemoteAddr()), Dest: addrPort(c.LocalAddr()), Port: l.port}, nil
}

// addrPort gives a TCP or UDP address as a value, IPv4-mapped ones as IPv4.
func addrPort(a net.Addr) netip.AddrPort {
	var ap netip.AddrPort
	switch a := a.(type) {
	case *net.TCPAddr:
		ap = a.AddrPort()
	case *net.UDPAddr:
		ap = a.AddrPort()
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// adoptListeners turns descriptors into listeners. It owns fds, also beside an error.
func adoptListeners(kinds []api.ListenerKind, fds api.Fds) (l Listeners, err error) {
	defer func() {
		if err != nil {
			l.Close()
			l = Listeners{}
		}
	}()
	for i, fd := range fds {
		if err != nil {
			unix.Close(fd)
			continue
		}
		if err = adoptListener(&l, kinds[i], fd); err != nil {
			err = fmt.Errorf("listener %s: %w", kinds[i], err)
		}
	}
	return l, err
}

func adoptListener(l *Listeners, kind api.ListenerKind, fd int) error {
	f := os.NewFile(uintptr(fd), kind.String())
	defer f.Close() // package net works on a duplicate
	if kind == api.ListenerKind_DNS_UDP {
		pc, err := net.FilePacketConn(f)
		if err != nil {
			return err
		}
		udp, ok := pc.(*net.UDPConn)
		if !ok {
			return errors.Join(errors.New("not a UDP socket"), pc.Close())
		}
		l.DNSUDP = udp
		return nil
	}
	ln, err := net.FileListener(f)
	if err != nil {
		return err
	}
	tcp, ok := ln.(*net.TCPListener)
	if !ok {
		return errors.Join(errors.New("not a TCP listener"), ln.Close())
	}
	switch kind {
	case api.ListenerKind_OUTBOUND:
		l.Outbound = newListener(tcp, true)
	case api.ListenerKind_INBOUND:
		l.Inbound = newListener(tcp, true)
	case api.ListenerKind_HBONE:
		l.HBONE = newListener(tcp, false)
	case api.ListenerKind_DNS_TCP:
		l.DNSTCP = tcp
	default:
		return errors.Join(errors.New("unknown kind"), ln.Close())
	}
	return nil
}

// held are our own duplicates of a pod's listening sockets. They are what a restarted agent gets back, and they keep the
// sockets alive whatever the handler does with its listeners; nobody accepts on them.
type held struct {
	kinds []api.ListenerKind
	fds   api.Fds
}

func hold(kinds []api.ListenerKind, fds api.Fds) (held, error) {
	dups, err := fds.Dup()
	return held{kinds, dups}, err
}
