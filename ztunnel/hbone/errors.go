package hbone

import (
	"errors"
	"fmt"
	"io"
	"strconv"

	"golang.org/x/net/http2"
)

var (
	// ErrClosed is the answer of a connection or pool that has been closed.
	ErrClosed = errors.New("hbone: closed")
	// ErrNotProcessed says that the peer has certainly not acted on a CONNECT, or has only said GOAWAY since: it is safe to send
	// it again on another connection. The pool does so by itself a few times.
	ErrNotProcessed = errors.New("hbone: connect not processed by the peer")
	// ErrLimit says that the pool may not open another connection.
	ErrLimit = errors.New("hbone: connection limit reached")
	// ErrConnLost says that the connection under a stream broke; both halves of the stream are gone.
	ErrConnLost = errors.New("hbone: tunnel connection lost")
	// ErrTimeout says that a handshake, SETTINGS, ping or CONNECT was not answered in time.
	ErrTimeout = errors.New("hbone: peer did not answer in time")
)

// StatusError is a CONNECT that was answered with another status than 200.
type StatusError struct{ Status int }

// Error implements error.
func (e *StatusError) Error() string {
	return "hbone: CONNECT answered with status " + strconv.Itoa(e.Status)
}

// ResetError is a stream that was reset.
type ResetError struct {
	Code   http2.ErrCode
	Remote bool // by the peer
}

// Error implements error.
func (e *ResetError) Error() string {
	if e.Remote {
		return "hbone: stream reset by peer: " + e.Code.String()
	}
	return "hbone: stream reset: " + e.Code.String()
}

// Abort reports whether the reset stands for a TCP reset. NO_ERROR and CANCEL do not: Istio's ztunnels send them when
// they drop a stream, and read them as end of file.
func (e *ResetError) Abort() bool {
	return e.Code != http2.ErrCodeNo && e.Code != http2.ErrCodeCancel
}

// readError is what Read reports for a stream that ended with err.
func readError(err error) error {
	var reset *ResetError
	if errors.As(err, &reset) && reset.Remote && !reset.Abort() {
		return io.EOF
	}
	return err
}

// connFailure ends a connection because of what the peer did; code goes into the GOAWAY.
type connFailure struct {
	code   http2.ErrCode
	reason string
}

// Error implements error.
func (e *connFailure) Error() string {
	return fmt.Sprintf("hbone: %s: %s", e.code, e.reason)
}
