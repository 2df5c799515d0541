package ca

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/ambit-mesh/ambit/controller/auth"
)

// TestCallers: one caller's calls are bounded, and others are not kept from calling.
func TestCallers(t *testing.T) {
	var c callers
	one, other := auth.Caller{Namespace: "shop", ServiceAccount: "web", PodUID: "1"}, auth.Caller{Namespace: "shop", ServiceAccount: "web", PodUID: "2"}
	var leave []func()
	for i := range callsOfCaller + 1 {
		l, ok := c.enter(one)
		if ok != (i < callsOfCaller) {
			t.Fatalf("call %d: %v", i+1, ok)
		}
		if ok {
			leave = append(leave, l)
		}
	}
	l, ok := c.enter(other)
	if !ok {
		t.Fatal("another caller is refused")
	}
	l()
	leave[0]()
	if l, ok = c.enter(one); !ok {
		t.Fatal("refused after a call has ended")
	}
	l()
	for _, l := range leave[1:] {
		l()
	}
	if len(c.now) > 0 {
		t.Errorf("left behind: %v", c.now)
	}
}

// silent is a call of which the message does not come.
type silent struct {
	grpc.ServerStream
	ended chan struct{}
}

func (s silent) RecvMsg(any) error { <-s.ended; return io.ErrUnexpectedEOF }

// TestSilentCaller: a caller that sends nothing does not keep its call for ever.
func TestSilentCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, start := silent{ended: make(chan struct{})}, time.Now()
		if _, err := receive(st); status.Code(err) != codes.DeadlineExceeded || time.Since(start) != messageWithin {
			t.Errorf("%v after %s", err, time.Since(start))
		}
		close(st.ended) // as gRPC does when the handler has returned
	})
}

// called is a call with a token, of which nothing is read.
type called struct {
	grpc.ServerStream
	ctx context.Context
}

func (c called) Context() context.Context { return c.ctx }

// away checks no tokens now.
type away struct{}

func (away) Authenticate(context.Context, string) (auth.Caller, error) {
	return auth.Caller{}, fmt.Errorf("review: %w", auth.ErrUnavailable)
}

// TestUnchecked: a token that nobody looked at is no failed authentication, and the caller is told to try again.
func TestUnchecked(t *testing.T) {
	s, log := server(signerFunc(func(context.Context, Request) (Chain, error) { panic("signed") }), clock)
	s.cfg.Auth = auth.Calls{Tokens: away{}}
	err := s.serve(called{ctx: metadata.NewIncomingContext(t.Context(), metadata.Pairs("authorization", "Bearer x"))})
	if status.Code(err) != codes.Unavailable || testutil.ToFloat64(s.cfg.Metrics.authFailed) != 0 || !strings.Contains(log.String(), "reason=unchecked") {
		t.Errorf("%v\n%s", err, log)
	}
}
