package client

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
)

const (
	urlA = "type.googleapis.com/test.A"
	urlB = "type.googleapis.com/test.B"
)

func resource(name, version string) *discovery.Resource {
	return &discovery.Resource{Name: name, Version: version, Resource: &anypb.Any{Value: []byte(name + version)}}
}

func testSession() *session {
	return newSession(&core.Node{Id: "n"}, []Type{{URL: urlA}, {URL: urlB, OnDemand: true}})
}

// exchange feeds a response and answers it.
func exchange(t *testing.T, s *session, resp *discovery.DeltaDiscoveryResponse, rejected map[string]error) *discovery.DeltaDiscoveryRequest {
	t.Helper()
	b, err := s.receive(resp)
	if err != nil {
		t.Fatal(err)
	}
	return s.answer(b, rejected)
}

func TestFirstRequests(t *testing.T) {
	reqs := testSession().open()
	if len(reqs) != 2 {
		t.Fatalf("%d requests", len(reqs))
	}
	a, b := reqs[0], reqs[1]
	if a.TypeUrl != urlA || a.Node.GetId() != "n" || len(a.ResourceNamesSubscribe) != 0 || len(a.InitialResourceVersions) != 0 || a.ResponseNonce != "" {
		t.Errorf("wildcard: %v", a)
	}
	if diff := cmp.Diff([]string{"*"}, b.ResourceNamesSubscribe); diff != "" || len(b.ResourceNamesUnsubscribe) != 1 || b.Node.GetId() != "n" {
		t.Errorf("on demand: %v", b)
	}
}

func TestAckNackAndReconnect(t *testing.T) {
	s := testSession()
	s.open()
	b, err := s.receive(&discovery.DeltaDiscoveryResponse{TypeUrl: urlA, Nonce: "1", Resources: []*discovery.Resource{resource("x", "1"), resource("y", "1")}})
	if err != nil || !b.First {
		t.Fatalf("first batch: %v %v", b, err)
	}
	ack := s.answer(b, nil)
	if ack.ResponseNonce != "1" || ack.ErrorDetail != nil || ack.Node != nil || len(ack.ResourceNamesSubscribe) != 0 {
		t.Errorf("ack: %v", ack)
	}
	// y's new version is refused and stays held at the old one; z is refused and was never held; w has no body.
	nack := exchange(t, s, &discovery.DeltaDiscoveryResponse{
		TypeUrl: urlA, Nonce: "2",
		Resources: []*discovery.Resource{resource("x", "2"), resource("y", "2"), resource("z", "2"), {Name: "w"}, {Version: "3"}},
	}, map[string]error{"y": errors.New("bad"), "z": errors.New("worse")})
	if want := "#4: resource without a name; w: resource without a body; y: bad; z: worse"; nack.ErrorDetail.GetMessage() != want || nack.ErrorDetail.GetCode() != 0 {
		t.Errorf("nack: %v", nack.ErrorDetail)
	}
	if diff := cmp.Diff(map[string]string{"x": "2", "y": "1"}, s.open()[0].InitialResourceVersions); diff != "" {
		t.Errorf("versions at reconnect (-want +got):\n%s", diff)
	}
	b, _ = s.receive(&discovery.DeltaDiscoveryResponse{TypeUrl: urlA, Nonce: "3", RemovedResources: []string{"x", "never"}})
	if b.First {
		t.Error("first again")
	}
	s.answer(b, nil)
	if diff := cmp.Diff(map[string]string{"y": "1"}, s.open()[0].InitialResourceVersions); diff != "" {
		t.Errorf("versions after removal (-want +got):\n%s", diff)
	}
}

func TestUnknownTypeIsAcknowledged(t *testing.T) {
	s := testSession()
	b, err := s.receive(&discovery.DeltaDiscoveryResponse{TypeUrl: "other", Nonce: "9", Resources: []*discovery.Resource{resource("x", "1")}})
	if !errors.Is(err, errUnknownType) {
		t.Fatal(err)
	}
	if req := s.answer(b, nil); req.ResponseNonce != "9" || req.TypeUrl != "other" || req.ErrorDetail != nil {
		t.Errorf("answer: %v", req)
	}
}

func TestOnDemand(t *testing.T) {
	s := testSession()
	if req, known := s.want(urlA, "x"); req != nil || !known {
		t.Error("a wildcard type has nothing to ask for")
	}
	req, known := s.want(urlB, "net/10.0.0.1")
	if known || req == nil || req.ResponseNonce != "" || req.ResourceNamesSubscribe[0] != "net/10.0.0.1" {
		t.Fatalf("want: %v %v", req, known)
	}
	if req, known := s.want(urlB, "net/10.0.0.1"); req != nil || known {
		t.Error("asked twice")
	}
	if _, ok := s.open()[1].InitialResourceVersions["net/10.0.0.1"]; !ok {
		t.Error("a pending name is not in the reconnect request")
	}
	r := resource("uid", "1")
	r.Aliases = []string{"net/10.0.0.1"}
	exchange(t, s, &discovery.DeltaDiscoveryResponse{TypeUrl: urlB, Resources: []*discovery.Resource{r}}, nil)
	if _, known := s.want(urlB, "net/10.0.0.1"); !known {
		t.Error("arrived under its alias and still not known")
	}
	open := s.open()[1]
	if diff := cmp.Diff(map[string]string{"uid": "1"}, open.InitialResourceVersions); diff != "" {
		t.Errorf("versions (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"*", "net/10.0.0.1"}, open.ResourceNamesSubscribe); diff != "" {
		t.Errorf("subscriptions (-want +got):\n%s", diff)
	}
}

func TestLongComplaintIsBounded(t *testing.T) {
	rejected := map[string]error{}
	for i := range 5000 {
		rejected[fmt.Sprintf("resource-%d", i)] = errors.New("wrong\xff in every way")
	}
	text := complaint(nil, rejected)
	if len(text) > maxComplaint+100 || !strings.HasSuffix(text, "(5000 in all)") || strings.ContainsRune(text, '\xff') {
		t.Errorf("%d bytes, ends %q", len(text), text[len(text)-40:])
	}
}

// TestDeltaEqualsFullResend is the oracle: whatever a server does over many streams, what the client holds is what a
// full resend would give it.
func TestDeltaEqualsFullResend(t *testing.T) {
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 5))
		s := newSession(&core.Node{}, []Type{{URL: urlA}})
		server := map[string]string{}
		held := map[string]string{} // what a Handler would hold
		for range 40 {
			// A stream: the server compares what the client says it holds with what there is.
			first := s.open()[0].InitialResourceVersions
			resp := &discovery.DeltaDiscoveryResponse{TypeUrl: urlA}
			for name := range first {
				if _, ok := server[name]; !ok {
					resp.RemovedResources = append(resp.RemovedResources, name)
				}
			}
			for name, v := range server {
				if first[name] != v {
					resp.Resources = append(resp.Resources, resource(name, v))
				}
			}
			deliver(t, s, held, resp)
			if diff := cmp.Diff(server, held); diff != "" {
				t.Fatalf("seed %d (-server +client):\n%s", seed, diff)
			}
			for range r.IntN(5) {
				name, resp := fmt.Sprint(r.IntN(10)), &discovery.DeltaDiscoveryResponse{TypeUrl: urlA}
				lost := r.IntN(3) == 0 // the stream breaks before it arrives
				if r.IntN(3) == 0 {
					delete(server, name)
					resp.RemovedResources = []string{name}
				} else {
					server[name] = fmt.Sprint(r.IntN(1000))
					resp.Resources = []*discovery.Resource{resource(name, server[name])}
				}
				if lost {
					break
				}
				deliver(t, s, held, resp)
			}
		}
	}
}

func deliver(t *testing.T, s *session, held map[string]string, resp *discovery.DeltaDiscoveryResponse) {
	t.Helper()
	b, err := s.receive(resp)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range b.Resources {
		held[r.Name] = r.Version
	}
	for _, name := range b.Removed {
		delete(held, name)
	}
	s.answer(b, nil)
}

func TestPauses(t *testing.T) {
	var p pause
	unavailable := status.Error(codes.Unavailable, "no route")
	var last time.Duration
	for i := range 20 {
		why, wait := p.next(false, time.Hour, connectError{unavailable})
		if why != ConnectionError || i > 0 && wait < last || wait > maxPause {
			t.Fatalf("attempt %d: %s after %s", i, why, wait)
		}
		last = wait
	}
	if last != maxPause {
		t.Errorf("grew to %s", last)
	}
	for _, c := range []struct {
		heard bool
		lived time.Duration
		err   error
		why   Termination
		wait  time.Duration
	}{
		{true, steady, io.EOF, Complete, firstPause},
		{true, steady, nil, Complete, firstPause},
		{true, steady, status.Error(codes.Unavailable, "transport is closing"), Reconnect, firstPause},
		{true, steady, status.Error(codes.Unavailable, "error reading: received prior goaway: code NO_ERROR"), Reconnect, firstPause},
		{true, steady, status.Error(codes.Canceled, ""), Reconnect, firstPause},
		{true, steady, unavailable, Error, firstPause},
		{false, steady, unavailable, Error, 2 * firstPause},
		{false, 0, io.EOF, Complete, 4 * firstPause},
		{false, 0, status.Error(codes.Unauthenticated, "no"), Error, 8 * firstPause},
		{true, steady, io.EOF, Complete, firstPause},
		{true, time.Second, status.Error(codes.Internal, "your answer broke me"), Error, 2 * firstPause},
		{true, time.Second, io.EOF, Complete, 4 * firstPause},
	} {
		why, wait := p.next(c.heard, c.lived, c.err)
		if why != c.why || wait != c.wait {
			t.Errorf("%v heard=%v for %s: %s after %s, want %s after %s", c.err, c.heard, c.lived, why, wait, c.why, c.wait)
		}
	}
}
