package xds

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"
	"testing"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/ambit-mesh/ambit/controller/api/authz"
	"github.com/ambit-mesh/ambit/controller/api/workload"
	"github.com/ambit-mesh/ambit/controller/auth"
)

type anyToken struct{}

func (anyToken) Authenticate(context.Context, string) (auth.Caller, error) {
	return auth.Caller{Namespace: "sys", ServiceAccount: "z", Node: "n1"}, nil
}

// served is a Server behind a real gRPC server in memory.
type served struct {
	t    *testing.T
	tab  *Table
	srv  *Server
	lis  *bufconn.Listener
	hang *hanger
}

func serve(t *testing.T) *served {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
	s := &served{t: t, tab: NewTable(), lis: bufconn.Listen(1 << 20)}
	s.hang = &hanger{Listener: s.lis}
	s.srv = New(Config{HangUp: s.hang.hangUp, Table: s.tab, Auth: auth.Calls{Tokens: anyToken{}}, Log: slog.New(slog.DiscardHandler), Metrics: NewMetrics(prometheus.NewRegistry())})
	gs := grpc.NewServer(grpc.ForceServerCodecV2(Codec()), grpc.MaxRecvMsgSize(64<<20))
	discovery.RegisterAggregatedDiscoveryServiceServer(gs, s.srv)
	ended := make(chan error, 1)
	go func() { ended <- gs.Serve(s.hang) }()
	t.Cleanup(func() { gs.Stop(); <-ended })
	return s
}

type wire = discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesClient

func (s *served) connect(first ...*discovery.DeltaDiscoveryRequest) wire {
	s.t.Helper()
	conn, err := grpc.NewClient("passthrough:///mem", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return s.lis.DialContext(ctx) }),
		grpc.WithInitialWindowSize(65535), grpc.WithStaticConnWindowSize(65535), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(context.Background(), "authorization", "Bearer x"), 10*time.Minute)
	s.t.Cleanup(func() { cancel(); conn.Close() })
	stream, err := discovery.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, req := range first {
		if err := stream.Send(req); err != nil && err != io.EOF {
			s.t.Fatal(err)
		}
	}
	return stream
}

func hello(url string) *discovery.DeltaDiscoveryRequest {
	return &discovery.DeltaDiscoveryRequest{TypeUrl: url, Node: &core.Node{Id: "ztunnel~10.0.0.1~z.sys~x"}}
}

// follow receives and acknowledges until the address of that name has that node; it counts responses.
func follow(t *testing.T, stream wire, name, want string) (responses int) {
	t.Helper()
	for {
		res, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		responses++
		if err := stream.Send(&discovery.DeltaDiscoveryRequest{TypeUrl: res.TypeUrl, ResponseNonce: res.Nonce}); err != nil {
			t.Fatal(err)
		}
		for _, x := range res.Resources {
			if x.Name != name {
				continue
			}
			var a workload.Address
			if err := x.Resource.UnmarshalTo(&a); err != nil {
				t.Fatal(err)
			}
			if a.GetWorkload().GetNode() == want {
				return responses
			}
		}
	}
}

// TestSlowClient: one client does not read. Another gets every change meanwhile, and when the first reads at last it gets the
// newest state in few responses, not the history.
func TestSlowClient(t *testing.T) {
	s := serve(t)
	var many []string
	for i := range 5000 {
		many = append(many, fmt.Sprintf("w%d=some-node-with-a-long-name-%d", i, i))
	}
	publish(t, s.tab, many...)
	slow := s.connect(hello(workload.AddressTypeURL), hello(authz.TypeURL)) // its window is full long before the first response ends
	fast := s.connect(hello(workload.AddressTypeURL), hello(authz.TypeURL))
	follow(t, fast, "w4999", "some-node-with-a-long-name-4999")
	for i := range 300 {
		publish(t, s.tab, fmt.Sprintf("w0=%d", i))
		follow(t, fast, "w0", fmt.Sprint(i))
	}
	if n := follow(t, slow, "w0", "299"); n > 4 {
		t.Errorf("the slow client was told in %d responses", n)
	}
}

func TestShutdown(t *testing.T) {
	s := serve(t)
	publish(t, s.tab, "a=1")
	c := s.connect(hello(workload.AddressTypeURL), hello(authz.TypeURL))
	follow(t, c, "a", "1")
	if got := s.srv.Clients(); len(got) != 1 || got[0].Node != "n1" || got[0].Account != "sys/z" {
		t.Errorf("clients: %+v", got)
	}
	s.srv.Drain(t.Context(), 0, time.Second)
	for {
		if _, err := c.Recv(); err != nil {
			if status.Code(err) != codes.Unavailable {
				t.Errorf("ended with %v", err)
			}
			break
		}
	}
	for len(s.srv.Clients()) > 0 {
		runtime.Gosched()
	}
}

// Hostile streams end with an error that says why, and only they.
func TestHostileStreams(t *testing.T) {
	s := serve(t)
	publish(t, s.tab, "a=1")
	good := s.connect(hello(workload.AddressTypeURL), hello(authz.TypeURL))
	follow(t, good, "a", "1")
	long := make([]string, maxNames+1)
	for i := range long {
		long[i] = fmt.Sprint(i)
	}
	noID := hello(workload.AddressTypeURL)
	noID.Node.Id = "~~~"
	for name, tc := range map[string]struct {
		reqs []*discovery.DeltaDiscoveryRequest
		code codes.Code
	}{
		"no node":        {[]*discovery.DeltaDiscoveryRequest{{TypeUrl: workload.AddressTypeURL}}, codes.InvalidArgument},
		"bad node id":    {[]*discovery.DeltaDiscoveryRequest{noID}, codes.InvalidArgument},
		"unknown type":   {[]*discovery.DeltaDiscoveryRequest{hello("type.googleapis.com/x")}, codes.InvalidArgument},
		"too many names": {[]*discovery.DeltaDiscoveryRequest{hello(workload.AddressTypeURL), {TypeUrl: workload.AddressTypeURL, ResourceNamesSubscribe: long}}, codes.ResourceExhausted},
	} {
		bad := s.connect(tc.reqs...)
		var err error
		for err == nil {
			_, err = bad.Recv()
		}
		if status.Code(err) != tc.code {
			t.Errorf("%s: %v", name, err)
		}
	}
	publish(t, s.tab, "a=2")
	follow(t, good, "a", "2")
}

// BenchmarkPublish is one change of 30,000 workloads reaching 50 sessions, encoding included.
func BenchmarkPublish(b *testing.B) {
	tab := NewTable()
	all := map[string]*workload.Address{}
	for i := range 30000 {
		all[fmt.Sprint("w", i)] = wl(fmt.Sprint("w", i), "n", "1")
	}
	if err := tab.Publish(all, nil, epoch); err != nil {
		b.Fatal(err)
	}
	var sessions []*session
	for range 50 {
		s := newSession(node{node: "n1"})
		for _, url := range []string{authz.TypeURL, workload.AddressTypeURL} {
			if _, err := s.request(&request{typeURL: url}, epoch); err != nil {
				b.Fatal(err)
			}
		}
		sessions = append(sessions, s)
	}
	drain := func() {
		for _, s := range sessions {
			for {
				r, _, err := s.next(tab, epoch)
				if err != nil {
					b.Fatal(err)
				}
				if r == nil {
					break
				}
				s.subs[r.typeURL].nonce = ""
			}
		}
	}
	drain()
	b.ResetTimer()
	for i := range b.N {
		if err := tab.Publish(map[string]*workload.Address{"w0": wl("w0", fmt.Sprint(i), "1")}, nil, epoch); err != nil {
			b.Fatal(err)
		}
		drain()
	}
}
