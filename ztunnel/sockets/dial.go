package sockets

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ambit-mesh/ambit/agent/api"
)

// DialTCP implements Dialer.
func (c *Client) DialTCP(ctx context.Context, uid string, dst, present netip.AddrPort) (*net.TCPConn, error) {
	kind := api.SocketKind_TCP4
	if dst.Addr().Is6() {
		kind = api.SocketKind_TCP6
	}
	conn, err := c.dial(ctx, uid, kind, dst, present)
	if err != nil {
		return nil, err
	}
	t := conn.(*net.TCPConn) // the kind of the socket that the agent was asked for is checked in dial
	_ = t.SetKeepAliveConfig(keepAlive)
	return t, nil
}

// DialUDP implements Dialer.
func (c *Client) DialUDP(ctx context.Context, uid string, dst netip.AddrPort) (*net.UDPConn, error) {
	kind := api.SocketKind_UDP4
	if dst.Addr().Is6() {
		kind = api.SocketKind_UDP6
	}
	conn, err := c.dial(ctx, uid, kind, dst, netip.AddrPort{})
	if err != nil {
		return nil, err
	}
	return conn.(*net.UDPConn), nil
}

func (c *Client) dial(ctx context.Context, uid string, kind api.SocketKind, dst, present netip.AddrPort) (net.Conn, error) {
	s := c.stock(uid, kind)
	if s == nil {
		return nil, &Error{OpTake, dst, ErrUnknownPod}
	}
	fd, err := s.take(ctx, c.cfg.StockWait)
	if err != nil {
		return nil, &Error{OpTake, dst, err}
	}
	if present.IsValid() {
		if err := unix.Bind(fd, sockaddr(present)); err != nil {
			unix.Close(fd)
			return nil, &Error{OpPresent, dst, fmt.Errorf("bind %s: %w", present, err)}
		}
	}
	f, err := connect(ctx, fd, dst)
	if err != nil {
		return nil, &Error{OpConnect, dst, err}
	}
	defer f.Close() // package net works on a duplicate
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, &Error{OpAdopt, dst, err}
	}
	if _, isTCP := conn.(*net.TCPConn); isTCP != tcp(kind) {
		return nil, &Error{OpAdopt, dst, errors.Join(fmt.Errorf("asked for a %s socket, got %T", kind, conn), conn.Close())}
	}
	return conn, nil
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// connect connects the non-blocking descriptor fd, which it owns. The answer is a connected socket in a file.
func connect(ctx context.Context, fd int, dst netip.AddrPort) (*os.File, error) {
	err := unix.Connect(fd, sockaddr(dst))
	if err != nil && err != unix.EINPROGRESS && err != unix.EINTR {
		unix.Close(fd)
		return nil, os.NewSyscallError("connect", err)
	}
	f := os.NewFile(uintptr(fd), "tcp")
	if err == nil || isConnected(fd) { // UDP, and most connections to an application in the same pod
		return f, nil
	}
	if err := awaitConnect(ctx, f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func isConnected(fd int) bool {
	_, err := unix.Getpeername(fd)
	return err == nil
}

// awaitConnect waits until the socket is connected or refused, ctx ends, or ConnectTimeout is over.
func awaitConnect(ctx context.Context, f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	deadline := time.Now().Add(ConnectTimeout)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	if err := f.SetWriteDeadline(deadline); err != nil {
		return err
	}
	if ctx.Done() != nil {
		stop := context.AfterFunc(ctx, func() { _ = f.SetWriteDeadline(time.Unix(1, 0)) })
		defer stop()
	}
	var connectErr error
	err = raw.Write(func(fd uintptr) bool {
		// The poller may wake us early, so an absent error alone does not mean connected.
		code, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		switch {
		case err != nil:
			connectErr = os.NewSyscallError("getsockopt", err)
		case code != 0:
			connectErr = os.NewSyscallError("connect", syscall.Errno(code))
		default:
			return isConnected(int(fd))
		}
		return true
	})
	if errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return context.Cause(ctx)
	}
	if err != nil {
		return err
	}
	return connectErr
}
