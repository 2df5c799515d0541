package ca

import (
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ambit-mesh/ambit/controller/api/ca"
	"github.com/ambit-mesh/ambit/controller/auth"
)

const (
	// callsOfCaller bounds one caller's calls at a time. Istio's ztunnel makes eight.
	callsOfCaller = 64
	// messageWithin is how long a caller may take to send its request once it has been recognised.
	messageWithin = 10 * time.Second
)

// callers counts the calls that each caller makes now: everybody's pod may call, and none may keep others from it. It is safe for
// concurrent use.
type callers struct {
	mu  sync.Mutex
	now map[auth.Caller]int
}

// enter counts a call in, or reports that there are too many. leave counts it out.
func (c *callers) enter(caller auth.Caller) (leave func(), ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.now[caller] >= callsOfCaller {
		return nil, false
	}
	if c.now == nil {
		c.now = map[auth.Caller]int{}
	}
	c.now[caller]++
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.now[caller]--; c.now[caller] == 0 {
			delete(c.now, caller)
		}
	}, true
}

// receive takes a call's message. The reading goroutine ends with the call at the latest.
func receive(st grpc.ServerStream) (*ca.IstioCertificateRequest, error) {
	req := &ca.IstioCertificateRequest{}
	came := make(chan error, 1)
	go func() { came <- st.RecvMsg(req) }()
	timer := time.NewTimer(messageWithin)
	defer timer.Stop()
	select {
	case err := <-came:
		return req, err
	case <-timer.C:
		return nil, status.Errorf(codes.DeadlineExceeded, "no request came within %s", messageWithin)
	}
}
