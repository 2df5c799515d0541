package client

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Termination is why a stream ended, with the names of Istio's istio_xds_connection_terminations_total.
type Termination string

// The reasons.
const (
	ConnectionError Termination = "ConnectionError" // never came about
	Error           Termination = "Error"           // broke with an error
	Reconnect       Termination = "Reconnect"       // the server or a proxy in between asked for another connection
	Complete        Termination = "Complete"        // ended in order
)

// The pauses between streams (ztunnel.md 6.4).
const (
	firstPause = 10 * time.Millisecond
	maxPause   = 15 * time.Second
	// steady is how long a stream must have lived for the next to come soon. Each stream begins with a list of all that is held.
	steady = 5 * time.Second
)

// connectError marks an error of a stream that never came about.
type connectError struct{ error }

func (e connectError) Unwrap() error { return e.error }

// pause is the growing wait between streams. The zero value starts small.
type pause struct{ last time.Duration }

// next says why a stream ended and how long to wait for the next. Streams on which the server never said anything count
// as failures, whatever their error, and so do those that ended soon after: a server that hangs up, at once or on the first
// answer, must not be asked in a tight loop.
func (b *pause) next(heard bool, lived time.Duration, err error) (Termination, time.Duration) {
	if heard && lived >= steady {
		b.last = 0
	}
	b.last = min(max(2*b.last, firstPause), maxPause)
	return terminationOf(err), b.last
}

func terminationOf(err error) Termination {
	var connect connectError
	switch {
	case err == nil, errors.Is(err, io.EOF):
		return Complete
	case errors.As(err, &connect):
		return ConnectionError
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return Reconnect
	}
	s := status.Convert(err)
	switch s.Code() {
	case codes.Unknown, codes.Canceled, codes.DeadlineExceeded:
		return Reconnect
	case codes.Unavailable:
		if strings.Contains(s.Message(), "transport is closing") || strings.Contains(s.Message(), "received prior goaway") {
			return Reconnect
		}
	}
	return Error
}
