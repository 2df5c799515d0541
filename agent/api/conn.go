package api

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
)

// Network is what the protocol is spoken over, as package net calls it.
const Network = "unixpacket"

// sendTimeout bounds how long a peer may leave its socket full.
const sendTimeout = 10 * time.Second

// Conn sends and receives messages with descriptors.
type Conn struct {
	unix *net.UnixConn

	sendMu sync.Mutex // one packet and its deadline at a time
	seq    uint64

	packet   []byte // these three are the receiving goroutine's
	oob      []byte
	received uint64
}

// NewConn speaks over c, which it owns from then on. c must be of network "unixpacket".
func NewConn(c *net.UnixConn) *Conn {
	// A byte more than is allowed, so that too much shows.
	return &Conn{unix: c, packet: make([]byte, MaxMessage+1), oob: make([]byte, unix.CmsgSpace(4*MaxFds)+unix.CmsgSpace(64))}
}

// Dial connects to the agent that listens at path.
func Dial(ctx context.Context, path string) (*Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, Network, path)
	if err != nil {
		return nil, fmt.Errorf("agent's hand-off socket: %w", err)
	}
	return NewConn(c.(*net.UnixConn)), nil
}

// Send numbers m (its Seq is set to the next number, which is returned) and sends it with descriptors that stay the
// caller's, who keeps them open until Send returns. Safe for concurrent use. A peer that does not read for ten seconds is
// an error; after any error the connection should be closed.
func (c *Conn) Send(m Message, fds ...int) (seq uint64, err error) {
	c.sendMu.Lock()
	defer c.sendMu.Unlock()
	c.seq++
	switch m := m.(type) {
	case *ToAgent:
		m.Seq = c.seq
	case *ToZtunnel:
		m.Seq = c.seq
	}
	want, err := m.check()
	if err != nil {
		return 0, fmt.Errorf("message to send: %w", err)
	}
	if want != len(fds) {
		return 0, fmt.Errorf("message to send: %d descriptors, announced %d", len(fds), want)
	}
	packet, err := proto.Marshal(m)
	if err != nil {
		return 0, fmt.Errorf("message to send: %w", err)
	}
	if len(packet) > MaxMessage {
		return 0, fmt.Errorf("message to send: %d bytes, at most %d", len(packet), MaxMessage)
	}
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	if err := c.unix.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
		return 0, fmt.Errorf("send: %w", err)
	}
	if _, _, err := c.unix.WriteMsgUnix(packet, oob, nil); err != nil {
		return 0, fmt.Errorf("send: %w", err)
	}
	return c.seq, nil
}

// Recv waits for the next message and reads it into m. The descriptors are the caller's to close; beside an error there are
// none. io.EOF: the peer is gone. An error that wraps ErrProtocol: it sent something unacceptable. One goroutine at a time.
func (c *Conn) Recv(m Message) (Fds, error) {
	n, oobn, flags, _, err := c.unix.ReadMsgUnix(c.packet, c.oob)
	fds, parseErr := parseRights(c.oob[:oobn])
	switch {
	case err != nil:
	case flags&unix.MSG_CTRUNC != 0:
		err = fmt.Errorf("%w: descriptors were cut off (MSG_CTRUNC; is RLIMIT_NOFILE reached?)", ErrProtocol)
	case flags&unix.MSG_TRUNC != 0:
		err = fmt.Errorf("%w: a message of more than %d bytes (MSG_TRUNC)", ErrProtocol, MaxMessage)
	case parseErr != nil:
		err = fmt.Errorf("%w: %w", ErrProtocol, parseErr)
	default:
		err = Decode(c.packet[:n], len(fds), m)
	}
	if c.received++; err == nil && m.GetSeq() != c.received {
		err = fmt.Errorf("%w: message %d where %d was due", ErrProtocol, m.GetSeq(), c.received)
	}
	if err != nil {
		fds.Close()
		return nil, err
	}
	return fds, nil
}

// SetReadDeadline bounds the next Recv; the zero time means no bound.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.unix.SetReadDeadline(t) }

// Peer is the process at the other end as the kernel attests it: as it was when it connected (or listened).
func (c *Conn) Peer() (*unix.Ucred, error) {
	raw, err := c.unix.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("peer: %w", err)
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return nil, fmt.Errorf("peer: %w", err)
	}
	if credErr != nil {
		return nil, fmt.Errorf("peer: SO_PEERCRED: %w", credErr)
	}
	return cred, nil
}

// Close ends the connection; a Recv that waits returns an error.
func (c *Conn) Close() error { return c.unix.Close() }
