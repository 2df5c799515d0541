package hbone

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/ambit-mesh/ambit/ztunnel/shift"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testTLS makes a server's and a client's configuration that trust one throw-away certificate.
var testTLS = sync.OnceValues(func() (server, client *tls.Config) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0),
		DNSNames: []string{"peer.test"}, BasicConstraintsValid: true, IsCA: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	cert := tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
	server = TunnelTLS(&tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots})
	client = TunnelTLS(&tls.Config{Certificates: []tls.Certificate{cert}, RootCAs: roots, ServerName: "peer.test"})
	return server, client
})

// tcpPair returns the two ends of a loopback connection.
func tcpPair(t testing.TB) (a, b *net.TCPConn) {
	t.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.DialTCP("tcp", nil, l.Addr().(*net.TCPAddr))
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); s.Close() })
	return c, s
}

// tlsPair returns the two ends of a TLS connection over loopback.
func tlsPair(t testing.TB) (client, server *TLSConn) {
	t.Helper()
	a, b := tcpPair(t)
	serverCfg, clientCfg := testTLS()
	var h Handshaker
	type result struct {
		c   *TLSConn
		err error
	}
	ch := make(chan result, 1)
	go func() {
		c, err := h.Server(context.Background(), b, serverCfg)
		ch <- result{c, err}
	}()
	client, err := h.Client(context.Background(), a, clientCfg)
	if err != nil {
		t.Fatal(err)
	}
	r := <-ch
	if r.err != nil {
		t.Fatal(r.err)
	}
	return client, r.c
}

// tunnel is a client and a server connection that talk to each other.
type tunnel struct {
	client *ClientConn
	server *ServerConn
	stop   func()
}

// connect runs a client on a and a server on b until the test ends.
func connect(t testing.TB, a, b net.Conn, cfg Config, handle func(*Stream, *Head)) *tunnel {
	t.Helper()
	tn := &tunnel{client: NewClientConn(a, cfg), server: NewServerConn(b, cfg, handler(handle))}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { tn.client.Run(ctx) })
	wg.Go(func() { tn.server.Run(ctx) })
	tn.stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(tn.stop)
	return tn
}

// handler is a Handler that does all its work before it returns.
func handler(handle func(*Stream, *Head)) Handler {
	return func(s *Stream, h *Head) shift.Job {
		handle(s, h)
		return nil
	}
}

// relay copies until the end. In tests it is told to rest at every chance: nobody may notice.
func relay(t testing.TB, tcp *net.TCPConn, s *Stream) Result {
	r, err := NewRelay(tcp, s, new(Counters))
	if err != nil {
		t.Error(err)
		return Result{Err: err}
	}
	if _, ok := t.(*testing.T); ok {
		stop, stopped := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(stopped)
			tick := time.NewTicker(time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-tick.C:
					r.Rest()
				case <-stop:
					return
				}
			}
		}()
		defer func() { close(stop); <-stopped }()
	}
	for {
		if result, over := r.Run(); over {
			return result
		}
	}
}

// tlsTunnel is connect over TLS on loopback.
func tlsTunnel(t testing.TB, cfg Config, handle func(*Stream, *Head)) *tunnel {
	t.Helper()
	a, b := tlsPair(t)
	return connect(t, a, b, cfg, handle)
}

var testHead = Head{
	Authority: "10.1.2.3:8080",
	Baggage:   Baggage{Cluster: "c1", Namespace: "shop", Type: "deployment", Workload: "web", Service: "web", Version: "v1"},
	Forwarded: Forwarded{For: netip.MustParseAddrPort("10.1.2.9:4567"), Host: "web.shop.svc.cluster.local"},
}

func open(t testing.TB, c *ClientConn) *Stream {
	t.Helper()
	h := testHead
	s, _, err := c.Connect(t.Context(), &h)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// relayed returns the application's ends of a connection that runs through tn: client app, server app. It needs a
// server handler made by relayTo.
type relays struct {
	t    testing.TB
	wg   sync.WaitGroup
	mu   sync.Mutex
	ends map[string]chan *net.TCPConn // the server application's ends by authority
	// results of the server's and the client's relays
	server, client chan Result
}

func newRelays(t testing.TB) *relays {
	r := &relays{t: t, ends: make(map[string]chan *net.TCPConn), server: make(chan Result, 1024), client: make(chan Result, 1024)}
	return r
}

// handle accepts a stream and relays it to one end of a new loopback connection, whose other end goes to ends.
func (r *relays) handle(s *Stream, h *Head) {
	if b := r.accept(s, h); b != nil {
		r.server <- relay(r.t, b, s)
	}
}

//go:noinline
func (r *relays) accept(s *Stream, h *Head) *net.TCPConn {
	a, b := tcpPair(r.t)
	if err := s.Accept(Baggage{Workload: "dst"}); err != nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ends[h.Authority] <- a
	return b
}

// open opens one relayed connection and returns the applications' ends.
func (r *relays) open(c *ClientConn) (client, server *net.TCPConn) {
	r.t.Helper()
	a, b := tcpPair(r.t)
	end := make(chan *net.TCPConn, 1)
	h := testHead
	r.mu.Lock()
	h.Authority = "10.0.0.1:" + strconv.Itoa(len(r.ends)+1)
	r.ends[h.Authority] = end
	r.mu.Unlock()
	s, _, err := c.Connect(r.t.Context(), &h)
	if err != nil {
		r.t.Fatal(err)
	}
	r.wg.Go(func() {
		r.client <- relay(r.t, b, s)
	})
	return a, <-end
}
