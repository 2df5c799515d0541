package client

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// authority is a CA and the server certificates it made.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{key, cert}
}

func (a *authority) server(t *testing.T, names ...string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(2), DNSNames: names, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (a *authority) write(t *testing.T, path string) {
	t.Helper()
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// script is a server whose streams a test writes: the n-th stream runs steps[n], later ones the last.
type script struct {
	discovery.UnimplementedAggregatedDiscoveryServiceServer
	mu      sync.Mutex
	streams int
	meta    []metadata.MD
	steps   []func(discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error
}

func (s *script) DeltaAggregatedResources(stream discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	md, _ := metadata.FromIncomingContext(stream.Context())
	s.mu.Lock()
	step := s.steps[min(s.streams, len(s.steps)-1)]
	s.streams++
	s.meta = append(s.meta, md)
	s.mu.Unlock()
	return step(stream)
}

func (s *script) seen() (int, []metadata.MD) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.streams, append([]metadata.MD(nil), s.meta...)
}

// serve starts a gRPC server and returns its address.
func serve(t *testing.T, s *script, cert tls.Certificate) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13})))
	discovery.RegisterAggregatedDiscoveryServiceServer(g, s)
	done := make(chan struct{})
	go func() {
		defer close(done)
		g.Serve(l)
	}()
	t.Cleanup(func() {
		g.Stop()
		<-done
	})
	return l.Addr().String()
}

// sink is a Handler that remembers.
type sink struct {
	mu      sync.Mutex
	held    map[string]string
	flushed map[string]string // as of the last flush
	reject  map[string]error
	change  chan struct{}
}

func newSink() *sink {
	return &sink{held: map[string]string{}, flushed: map[string]string{}, reject: map[string]error{}, change: make(chan struct{}, 1)}
}

func (s *sink) Handle(b Batch) map[string]error {
	s.mu.Lock()
	defer s.mu.Unlock()
	rejected := map[string]error{}
	for _, r := range b.Resources {
		if err := s.reject[r.Name+"@"+r.Version]; err != nil {
			rejected[r.Name] = err
			continue
		}
		s.held[r.Name] = r.Version
	}
	for _, n := range b.Removed {
		delete(s.held, n)
	}
	return rejected
}

func (s *sink) Flush() {
	s.mu.Lock()
	s.flushed = map[string]string{}
	for k, v := range s.held {
		s.flushed[k] = v
	}
	s.mu.Unlock()
	select {
	case s.change <- struct{}{}:
	default:
	}
}

// await waits until what was flushed satisfies ok.
func (s *sink) await(t *testing.T, ok func(map[string]string) bool) {
	t.Helper()
	limit := time.After(30 * time.Second)
	for {
		s.mu.Lock()
		good := ok(s.flushed)
		now := fmt.Sprint(s.flushed)
		s.mu.Unlock()
		if good {
			return
		}
		select {
		case <-s.change:
		case <-limit:
			t.Fatalf("held: %s", now)
		}
	}
}

func run(t *testing.T, cfg Config) *Client {
	t.Helper()
	cfg.Log = slog.New(slog.DiscardHandler)
	cfg.Node = &core.Node{Id: "ztunnel~1.1.1.1~z.ns~ns.svc.cluster.local"}
	if cfg.Types == nil {
		cfg.Types = []Type{{URL: urlA}}
	}
	c := New(cfg)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("run ended with %v", err)
		}
	})
	return c
}

type stream = discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesServer

func response(nonce string, rs ...*discovery.Resource) *discovery.DeltaDiscoveryResponse {
	return &discovery.DeltaDiscoveryResponse{TypeUrl: urlA, Nonce: nonce, Resources: rs}
}

// idle waits for the client to go.
func idle(s stream) error {
	<-s.Context().Done()
	return nil
}

// TestLifeOfAClient goes through accept, refuse, a lost stream, the difference at reconnect and a removal, with token and
// root file replaced in between.
func TestLifeOfAClient(t *testing.T) {
	old := newAuthority(t)
	dir := t.TempDir()
	root, token := filepath.Join(dir, "root.pem"), filepath.Join(dir, "token")
	old.write(t, root)
	os.WriteFile(token, []byte("first\n"), 0o600)
	versions := make(chan map[string]string, 1)
	nack := make(chan string, 1)
	cert := old.server(t, "localhost")
	s := &script{}
	s.steps = append(s.steps, func(st stream) error {
		req, err := st.Recv()
		if err != nil || req.GetNode().GetId() == "" || len(req.GetInitialResourceVersions()) != 0 {
			return fmt.Errorf("first request %v: %v", req, err)
		}
		st.Send(response("1", resource("x", "1"), resource("y", "1")))
		if req, err = st.Recv(); err != nil || req.GetResponseNonce() != "1" || req.GetErrorDetail() != nil {
			return fmt.Errorf("ack %v: %v", req, err)
		}
		st.Send(response("2", resource("y", "2"), resource("z", "1")))
		if req, err = st.Recv(); err != nil {
			return err
		}
		nack <- req.GetErrorDetail().GetMessage()
		os.WriteFile(token, []byte("second\n"), 0o600)
		return status.Error(codes.Unavailable, "going down")
	}, func(st stream) error {
		req, err := st.Recv()
		if err != nil {
			return err
		}
		versions <- req.GetInitialResourceVersions()
		st.Send(&discovery.DeltaDiscoveryResponse{TypeUrl: urlA, Nonce: "3", RemovedResources: []string{"x"}})
		return idle(st)
	})
	h := newSink()
	h.reject["y@2"] = errors.New("not like this")
	run(t, Config{Handler: h, Conn: ConnConfig{Address: localhost(serve(t, s, cert)), RootFile: root, TokenFile: token, ClusterID: "c1", Headers: map[string]string{"x-extra": "1"}}})
	h.await(t, func(m map[string]string) bool { return m["x"] == "" && m["y"] == "1" && m["z"] == "1" })
	if got := <-nack; got != "y: not like this" {
		t.Errorf("nack %q", got)
	}
	if got := <-versions; len(got) != 3 || got["x"] != "1" || got["y"] != "1" || got["z"] != "1" {
		t.Errorf("versions at reconnect %v", got)
	}
	_, md := s.seen()
	for i, want := range []string{"Bearer first", "Bearer second"} {
		if got := md[i].Get("authorization"); len(got) != 1 || got[0] != want || md[i].Get("clusterid")[0] != "c1" || md[i].Get("x-extra")[0] != "1" {
			t.Errorf("stream %d: %v", i, md[i])
		}
	}
}

// localhost is the address by the name that test certificates have.
func localhost(addr string) string {
	_, port, _ := net.SplitHostPort(addr)
	return net.JoinHostPort("localhost", port)
}

// TestRootFileIsReadAtEachConnection: a server with a certificate of another root is not believed until the file says so.
func TestRootFileIsReadAtEachConnection(t *testing.T) {
	old, next := newAuthority(t), newAuthority(t)
	root := filepath.Join(t.TempDir(), "root.pem")
	old.write(t, root)
	s := &script{steps: []func(stream) error{func(st stream) error {
		st.Send(response("1", resource("x", "1")))
		return idle(st)
	}}}
	failed := make(chan struct{}, 100)
	h := newSink()
	run(t, Config{Handler: h, Metrics: onEnd{failed}, Conn: ConnConfig{Address: localhost(serve(t, s, next.server(t, "localhost"))), RootFile: root}})
	<-failed
	<-failed
	if n, _ := s.seen(); n != 0 {
		t.Fatal("a stream was opened to a server that is not to be believed")
	}
	next.write(t, root)
	h.await(t, func(m map[string]string) bool { return m["x"] == "1" })
}

type onEnd struct{ ended chan struct{} }

func (onEnd) Message(string, int)  {}
func (onEnd) Rejected(string, int) {}
func (onEnd) Connected(bool)       {}
func (o onEnd) Terminated(Termination) {
	select {
	case o.ended <- struct{}{}:
	default:
	}
}

func TestServerNames(t *testing.T) {
	ca := newAuthority(t)
	root := filepath.Join(t.TempDir(), "root.pem")
	ca.write(t, root)
	for _, c := range []struct {
		name string
		cert []string
		alt  string
		ok   bool
	}{
		{"its own name", []string{"localhost"}, "", true},
		{"the second name", []string{"istiod.istio-system.svc"}, "istiod.istio-system.svc", true},
		{"another name", []string{"elsewhere"}, "istiod.istio-system.svc", false},
		{"no name", nil, "", false},
	} {
		s := &script{steps: []func(stream) error{func(st stream) error {
			st.Send(response("1", resource("x", "1")))
			return idle(st)
		}}}
		conn, err := Dial(ConnConfig{Address: localhost(serve(t, s, ca.server(t, c.cert...))), RootFile: root, AltName: c.alt})
		if err != nil {
			t.Fatal(err)
		}
		st, err := discovery.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(t.Context())
		if err == nil {
			_, err = st.Recv()
		}
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
		conn.Close()
	}
	for name, cfg := range map[string]ConnConfig{"no port": {Address: "x", RootFile: root}, "no root": {Address: "x:1"}} {
		if _, err := Dial(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestMisbehavingServers: whatever a server does, the client goes on, and takes what is good from the next.
func TestMisbehavingServers(t *testing.T) {
	ca := newAuthority(t)
	root := filepath.Join(t.TempDir(), "root.pem")
	ca.write(t, root)
	good := func(st stream) error {
		st.Send(response("1", resource("end", "1")))
		return idle(st)
	}
	s := &script{steps: []func(stream) error{
		func(st stream) error { return nil },                                               // hangs up at once
		func(st stream) error { return status.Error(codes.Unauthenticated, "who?") },       // refuses
		func(st stream) error { return status.Error(codes.Internal, "\xff\x00") },          // breaks
		func(st stream) error { st.Send(&discovery.DeltaDiscoveryResponse{}); return nil }, // says nothing
		func(st stream) error { // another type, resources that are none, removal of the unknown, a nonce used twice
			st.Send(&discovery.DeltaDiscoveryResponse{TypeUrl: "other", Nonce: "1", Resources: []*discovery.Resource{resource("x", "1")}})
			st.Send(&discovery.DeltaDiscoveryResponse{TypeUrl: urlA, Nonce: "1", Resources: []*discovery.Resource{nil, {}, {Name: "n"}}, RemovedResources: []string{"", "never"}})
			for range 3 { // the first request and two answers
				if _, err := st.Recv(); err != nil {
					return err
				}
			}
			return status.Error(codes.ResourceExhausted, "enough")
		},
		good,
	}}
	h := newSink()
	run(t, Config{Handler: h, Conn: ConnConfig{Address: localhost(serve(t, s, ca.server(t, "localhost"))), RootFile: root}})
	h.await(t, func(m map[string]string) bool { return m["end"] == "1" })
	if n, _ := s.seen(); n != 6 {
		t.Errorf("%d streams, want 6", n)
	}
}

// TestOnDemandWaits: Want returns when the resource is visible, when there is none, and when time is up.
func TestOnDemandWaits(t *testing.T) {
	ca := newAuthority(t)
	root := filepath.Join(t.TempDir(), "root.pem")
	ca.write(t, root)
	s := &script{steps: []func(stream) error{func(st stream) error {
		for {
			req, err := st.Recv()
			if err != nil {
				return nil
			}
			for _, name := range req.GetResourceNamesSubscribe() {
				resp := &discovery.DeltaDiscoveryResponse{TypeUrl: urlB}
				switch name {
				case "alias":
					r := resource("uid", "1")
					r.Aliases = []string{"alias"}
					resp.Resources = []*discovery.Resource{r}
				case "none":
					resp.RemovedResources = []string{"none"}
				default:
					continue
				}
				st.Send(resp)
			}
		}
	}}}
	h := newSink()
	c := run(t, Config{Handler: h, Types: []Type{{URL: urlB, OnDemand: true}}, Conn: ConnConfig{Address: localhost(serve(t, s, ca.server(t, "localhost"))), RootFile: root}})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for range 2 { // the second time it is known already
		if err := c.Want(ctx, urlB, "alias"); err != nil {
			t.Fatal(err)
		}
		h.mu.Lock()
		if h.flushed["uid"] != "1" {
			t.Error("Want returned before the resource was visible")
		}
		h.mu.Unlock()
	}
	if err := c.Want(ctx, urlB, "none"); err != nil {
		t.Fatal(err)
	}
	short, cancelShort := context.WithCancel(ctx)
	cancelShort()
	if err := c.Want(short, urlB, "never answered"); !errors.Is(err, context.Canceled) {
		t.Errorf("out of time: %v", err)
	}
	c.mu.Lock()
	if len(c.waiters) != 0 {
		t.Errorf("%d waiters left", len(c.waiters))
	}
	c.mu.Unlock()
}

// deaf is a stream that takes every request.
type deaf struct{ deltaStream }

func (deaf) Send(*discovery.DeltaDiscoveryRequest) error { return nil }

// flushes says when something became visible.
type flushes func()

func (flushes) Handle(Batch) map[string]error { return nil }
func (f flushes) Flush()                      { f() }

// TestKnownIsVisible: who wants what has arrived but is not visible yet, because more is at hand, waits until it is. Which of the two
// is looked at first is chance, so this is tried often.
func TestKnownIsVisible(t *testing.T) {
	for range 100 {
		done, visible := make(chan struct{}), false
		c := New(Config{Node: &core.Node{}, Types: []Type{{URL: urlA, OnDemand: true}}, Log: slog.New(slog.DiscardHandler), Handler: flushes(func() {
			select {
			case <-done:
				if !visible {
					t.Error("released before anything was visible")
				}
			default:
			}
			visible = true
		})})
		c.session.want(urlA, "x") // by another, before
		c.waiters[want{urlA, "x"}] = []chan struct{}{done}
		c.wants <- want{urlA, "x"}
		responses := make(chan *discovery.DeltaDiscoveryResponse, 2)
		responses <- response("1", resource("x", "1"))
		responses <- response("2", resource("y", "1"))
		close(responses)
		if _, err := c.serve(t.Context(), deaf{}, responses); err != nil {
			t.Fatal(err)
		}
		<-done
	}
}

// TestPausesGrowWhileNobodyAnswers counts attempts in the clock of a bubble: a control plane that is away for an hour is
// not asked in a tight loop, and is asked often enough.
func TestPausesGrowWhileNobodyAnswers(t *testing.T) {
	ca := newAuthority(t)
	root := filepath.Join(t.TempDir(), "root.pem")
	ca.write(t, root)
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		dials := 0
		dialer := func(context.Context, string) (net.Conn, error) {
			mu.Lock()
			defer mu.Unlock()
			dials++
			return nil, errors.New("no route to host")
		}
		c := New(Config{
			Node: &core.Node{}, Types: []Type{{URL: urlA}}, Handler: newSink(), Log: slog.New(slog.DiscardHandler),
			Conn: ConnConfig{Address: "localhost:1", RootFile: root, Dialer: dialer},
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := c.Run(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("run ended with %v", err)
		}
		mu.Lock()
		defer mu.Unlock()
		if dials < 240 || dials > 600 {
			t.Errorf("%d attempts in an hour", dials)
		}
	})
}

func TestNode(t *testing.T) {
	n, err := Node(NodeConfig{Pod: "z", Namespace: "ambit-system", Node: "n1", Cluster: "c", Version: "1.2", Metadata: map[string]string{"DNS_CAPTURE": "true"}})
	if err != nil || n.GetId() != "ztunnel~1.1.1.1~z.ambit-system~ambit-system.svc.cluster.local" {
		t.Fatalf("%v %v", n, err)
	}
	for k, want := range map[string]string{"NAME": "z", "NAMESPACE": "ambit-system", "NODE_NAME": "n1", "CLUSTER_ID": "c", "ISTIO_VERSION": "1.2", "DNS_CAPTURE": "true"} {
		if got := n.GetMetadata().GetFields()[k].GetStringValue(); got != want {
			t.Errorf("%s = %q, want %q", k, got, want)
		}
	}
	if _, err := Node(NodeConfig{Pod: "\xff"}); err == nil {
		t.Error("text that is no UTF-8 was accepted")
	}
}
