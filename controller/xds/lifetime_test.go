package xds

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ambit-mesh/ambit/controller/api/authz"
	"github.com/ambit-mesh/ambit/controller/api/workload"
)

// helloOf is the first request of a client with an id of its own.
func helloOf(t string, i int) *discovery.DeltaDiscoveryRequest {
	return &discovery.DeltaDiscoveryRequest{TypeUrl: t, Node: &core.Node{Id: fmt.Sprintf("ztunnel~10.0.0.1~z%d.sys~x", i)}}
}

// end receives until the stream ends.
func end(c wire) error {
	for {
		if _, err := c.Recv(); err != nil {
			return err
		}
	}
}

// obey acknowledges everything until the stream ends.
func obey(c wire) error {
	for {
		res, err := c.Recv()
		if err != nil {
			return err
		}
		if err := c.Send(&discovery.DeltaDiscoveryRequest{TypeUrl: res.TypeUrl, ResponseNonce: res.Nonce}); err != nil {
			continue // Recv says why
		}
	}
}

// A client that reads but never answers is told why it has to go, and is disconnected if it does not.
func TestUnanswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t)
		publish(t, s.tab, "a=1")
		start := time.Now()
		err := end(s.connect(hello(workload.AddressTypeURL), hello(authz.TypeURL)))
		if status.Code(err) != codes.DeadlineExceeded || time.Since(start) != answerWithin {
			t.Errorf("ended after %s: %v", time.Since(start), err)
		}
		time.Sleep(hangUpAfter)
		synctest.Wait()
		if n := s.hangUps(); n != 1 {
			t.Errorf("hung up %d times", n)
		}
		if got := testutil.ToFloat64(s.srv.cfg.Metrics.timeouts); got != 1 {
			t.Errorf("counted %v", got)
		}
	})
}

// A client that does not read at all blocks the send of its own stream, which is ended after a while; others are served.
func TestNotReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t)
		var many []string
		for i := range 3000 {
			many = append(many, fmt.Sprintf("w%d=x", i), fmt.Sprintf("p:%d", i))
		}
		publish(t, s.tab, many...)
		s.connect(helloOf(workload.AddressTypeURL, 1), helloOf(authz.TypeURL, 1)) // never received from: policies fill the window
		synctest.Wait()
		other := s.connect(helloOf(workload.AddressTypeURL, 2), helloOf(authz.TypeURL, 2))
		follow(t, other, "w2999", "x")
		if n := s.hangUps(); n != 0 {
			t.Fatal("disconnected too early")
		}
		time.Sleep(sendWithin)
		synctest.Wait()
		if n := s.hangUps(); n != 1 {
			t.Errorf("hung up %d times", n)
		}
		publish(t, s.tab, "w0=y")
		follow(t, other, "w0", "y")
		for _, c := range s.srv.Clients() {
			if c.Proxy == helloOf("", 1).Node.Id {
				t.Error("still connected")
			}
		}
	})
}

// At the end clients are sent away one after the other, and nobody is taken.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t)
		publish(t, s.tab)
		const clients = 10
		ends := make(chan time.Time, clients)
		for i := range clients {
			c := s.connect(helloOf(workload.AddressTypeURL, i), helloOf(authz.TypeURL, i))
			go func() {
				if err := obey(c); status.Code(err) != codes.Unavailable {
					t.Errorf("ended with %v", err)
				}
				ends <- time.Now()
			}()
		}
		synctest.Wait()
		start := time.Now()
		s.srv.Drain(t.Context(), time.Second, 5*time.Second)
		synctest.Wait()
		at := map[time.Duration]int{}
		for range clients {
			at[(<-ends).Sub(start)]++
		}
		for d, n := range at {
			if n != 1 || d > 5*time.Second || d%(500*time.Millisecond) != 0 {
				t.Errorf("%d left after %s", n, d)
			}
		}
		if err := end(s.connect(hello(workload.AddressTypeURL))); status.Code(err) != codes.Unavailable {
			t.Errorf("a new client: %v", err)
		}
		s.srv.Drain(t.Context(), 0, 0) // again: nothing
	})
}

// Clients that open a stream and say nothing hold up others for a moment only, and are told why they have to go.
func TestSilentClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t)
		publish(t, s.tab, "a=1")
		var silent []wire
		for range atOnce {
			c := s.connect()
			if err := c.Send(&discovery.DeltaDiscoveryRequest{}); err != nil { // opens the stream; refused for want of a node
				t.Fatal(err)
			}
			silent = append(silent, c)
		}
		for _, c := range silent {
			if err := end(c); status.Code(err) != codes.InvalidArgument {
				t.Errorf("without a node: %v", err)
			}
		}
		for range atOnce {
			silent = append(silent[:0:0], s.connect())
		}
		synctest.Wait()
		start := time.Now()
		follow(t, s.connect(hello(workload.AddressTypeURL), hello(authz.TypeURL)), "a", "1")
		if d := time.Since(start); d > turnTakes {
			t.Errorf("waited %s", d)
		}
		if err := end(silent[0]); status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("silent: %v", err)
		}
	})
}

// Streams that wait for their turn count: one node does not fill the queue that the others wait in.
func TestQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t)
		publish(t, s.tab, "a=1")
		for range clientsPerNode {
			s.connect() // says nothing
		}
		synctest.Wait()
		start := time.Now()
		if err := end(s.connect()); status.Code(err) != codes.ResourceExhausted || time.Since(start) > 0 {
			t.Errorf("one more from the node, after %s: %v", time.Since(start), err)
		}
	})
}

// Before the first state is known nothing that clients say is taken in: they would all be waiting with what they hold in memory.
func TestNothingToTellYet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t)
		c := s.connect(hello(workload.AddressTypeURL), hello(authz.TypeURL))
		synctest.Wait()
		time.Sleep(2 * firstRequest)
		if n := len(s.srv.Clients()) + len(s.srv.turns); n != 0 {
			t.Errorf("%d clients or turns before the first state", n)
		}
		publish(t, s.tab, "a=1")
		follow(t, c, "a", "1")
		waiting := s.connect()
		synctest.Wait()
		s.srv.Drain(t.Context(), 0, 0)
		if err := end(waiting); status.Code(err) != codes.Unavailable {
			t.Errorf("at the end: %v", err)
		}
	})
}

func TestLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t)
		publish(t, s.tab, "a=1")
		for i := range clientsPerNode {
			follow(t, s.connect(helloOf(workload.AddressTypeURL, i), helloOf(authz.TypeURL, i)), "a", "1")
		}
		if err := end(s.connect(hello(workload.AddressTypeURL))); status.Code(err) != codes.ResourceExhausted {
			t.Errorf("one more from the node: %v", err)
		}
		if got := testutil.ToFloat64(s.srv.cfg.Metrics.refused.WithLabelValues("too_many_clients")); got != 1 {
			t.Errorf("counted %v", got)
		}
		if n := s.srv.Disconnect(helloOf("", 3).Node.Id); n != 1 {
			t.Errorf("disconnected %d", n)
		}
		synctest.Wait()
		c := s.connect(hello(workload.AddressTypeURL), hello(authz.TypeURL))
		follow(t, c, "a", "1")
		for range asksAtOnce + 1 {
			if err := c.Send(&discovery.DeltaDiscoveryRequest{TypeUrl: workload.AddressTypeURL, ResourceNamesSubscribe: []string{"x"}}); err != nil {
				break
			}
		}
		if err := end(c); status.Code(err) != codes.ResourceExhausted {
			t.Errorf("too many requests: %v", err)
		}
		c = s.connect(hello(workload.AddressTypeURL), hello(authz.TypeURL))
		follow(t, c, "a", "1")
		if err := c.Send(&discovery.DeltaDiscoveryRequest{TypeUrl: workload.AddressTypeURL, ResourceNamesUnsubscribe: []string{"*"}}); err != nil {
			t.Fatal(err)
		}
		if err := end(c); status.Code(err) != codes.InvalidArgument {
			t.Errorf("wildcard taken back: %v", err)
		}
	})
}

// hanger is a listener whose newest connections can be closed, as the controller's can.
type hanger struct {
	net.Listener
	mu    sync.Mutex
	conns []net.Conn
	n     int
}

func (h *hanger) Accept() (net.Conn, error) {
	c, err := h.Listener.Accept()
	if err == nil {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.conns = append(h.conns, c)
	}
	return c, err
}

// hangUp takes the newest connection for the call's: tests connect one by one.
func (h *hanger) hangUp(context.Context) func() {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.conns[len(h.conns)-1]
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.n++
		_ = c.Close()
	}
}

func (s *served) hangUps() int {
	s.hang.mu.Lock()
	defer s.hang.mu.Unlock()
	return s.hang.n
}
