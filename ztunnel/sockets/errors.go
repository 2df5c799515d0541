package sockets

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"
)

// ConnectTimeout bounds a TCP connect whose context has no earlier deadline (ztunnel.md 2.10).
const ConnectTimeout = 10 * time.Second

// Errors that callers and metrics tell apart, besides the system's own (syscall.ECONNREFUSED and so on).
var (
	// ErrUnknownPod: the agent has not named that pod, or its sockets were released.
	ErrUnknownPod = errors.New("no such pod on this node")
	// ErrNoSockets: none was in stock, and the agent did not bring any in time.
	ErrNoSockets = errors.New("no ready-made socket")
)

// Op is the step that an Error happened in.
type Op string

// The steps of a dial, in order.
const (
	OpTake    Op = "take socket"
	OpPresent Op = "present client address"
	OpConnect Op = "connect"
	OpAdopt   Op = "adopt socket"
)

// Error is a dial that came to nothing. No byte was sent.
type Error struct {
	Op  Op
	Dst netip.AddrPort
	Err error
}

func (e *Error) Error() string { return fmt.Sprintf("%s: %s: %v", e.Dst, e.Op, e.Err) }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Timeout tells whether the other side did not answer in time.
func (e *Error) Timeout() bool { return e.Op == OpConnect && errors.Is(e.Err, os.ErrDeadlineExceeded) }
