package cert_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/ambit-mesh/ambit/controller/api/spiffe"
	"github.com/ambit-mesh/ambit/ztunnel/cert"
	"github.com/ambit-mesh/ambit/ztunnel/cert/certtest"
)

// handshake joins two configurations and returns what each side thinks.
func handshake(t testing.TB, server, client *tls.Config) (srv, cli tls.ConnectionState, srvErr, cliErr error) {
	t.Helper()
	a, b := tcpPair(t)
	deadline := time.Now().Add(10 * time.Second)
	a.SetDeadline(deadline)
	b.SetDeadline(deadline)
	s, c := tls.Server(a, server), tls.Client(b, client)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if srvErr = s.Handshake(); srvErr == nil {
			_, srvErr = s.Write([]byte("x"))
		}
		a.Close()
	}()
	if cliErr = c.Handshake(); cliErr == nil {
		// A TLS 1.3 server judges the client after the client has finished.
		_, cliErr = c.Read(make([]byte, 1))
	}
	b.Close()
	<-done
	return s.ConnectionState(), c.ConnectionState(), srvErr, cliErr
}

// tcpPair is a loopback connection: with net.Pipe, which has no buffer, an alert and a flight would wait for each other.
func tcpPair(t testing.TB) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if b, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if a, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return a, b
}

func TestHandshake(t *testing.T) {
	ca := certtest.New(t)
	cart, web := certtest.ID("shop/cart"), certtest.ID("shop/web")
	server, client := ca.Issue(t, cart), ca.Issue(t, web)
	srv, cli, srvErr, cliErr := handshake(t, server.Server(), client.Client([]spiffe.ID{certtest.ID("shop/other"), cart}))
	if srvErr != nil || cliErr != nil {
		t.Fatalf("server %v, client %v", srvErr, cliErr)
	}
	if id, err := cert.PeerIdentity(srv); err != nil || id != web {
		t.Errorf("server sees %v, %v", id, err)
	}
	if id, err := cert.PeerIdentity(cli); err != nil || id != cart {
		t.Errorf("client sees %v, %v", id, err)
	}
	for name, cs := range map[string]tls.ConnectionState{"server": srv, "client": cli} {
		if cs.Version != tls.VersionTLS13 || cs.NegotiatedProtocol != "h2" || cs.CurveID != tls.X25519MLKEM768 {
			t.Errorf("%s: version %x, protocol %q, key exchange %v", name, cs.Version, cs.NegotiatedProtocol, cs.CurveID)
		}
		if cs.ServerName != "" || cs.DidResume {
			t.Errorf("%s: server name %q, resumed %v", name, cs.ServerName, cs.DidResume)
		}
	}
}

// TestClassicPeer: a peer without the hybrid, as Istio's with its default order may choose, is served.
func TestClassicPeer(t *testing.T) {
	ca := certtest.New(t)
	server, client := ca.Issue(t, certtest.ID("a/a")), ca.Issue(t, certtest.ID("b/b"))
	for _, curve := range []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384} {
		cfg := client.Client([]spiffe.ID{certtest.ID("a/a")})
		cfg.CurvePreferences = []tls.CurveID{curve}
		if _, cli, srvErr, cliErr := handshake(t, server.Server(), cfg); srvErr != nil || cliErr != nil || cli.CurveID != curve {
			t.Errorf("%v: server %v, client %v, chose %v", curve, srvErr, cliErr, cli.CurveID)
		}
	}
}

func TestNoOldVersions(t *testing.T) {
	ca := certtest.New(t)
	server, client := ca.Issue(t, certtest.ID("a/a")), ca.Issue(t, certtest.ID("b/b"))
	cfg := client.Client([]spiffe.ID{certtest.ID("a/a")})
	cfg.MinVersion, cfg.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	if _, _, srvErr, _ := handshake(t, server.Server(), cfg); srvErr == nil || !strings.Contains(srvErr.Error(), "version") {
		t.Errorf("server: %v", srvErr)
	}
}

func TestServerNeedsClientCertificate(t *testing.T) {
	server := certtest.New(t).Issue(t, certtest.ID("a/a"))
	cfg := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}
	if _, _, srvErr, cliErr := handshake(t, server.Server(), cfg); srvErr == nil || cliErr == nil {
		t.Errorf("server %v, client %v", srvErr, cliErr)
	}
}

func TestExpectedIdentities(t *testing.T) {
	ca := certtest.New(t)
	server, client := ca.Issue(t, certtest.ID("shop/cart")), ca.Issue(t, certtest.ID("shop/web"))
	other := certtest.ID("shop/cart")
	other.TrustDomain = "elsewhere"
	for name, expected := range map[string][]spiffe.ID{
		"empty list":         nil,
		"somebody else":      {certtest.ID("shop/payments")},
		"other trust domain": {other},
		"zero identity":      {{}},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, _, cliErr := handshake(t, server.Server(), client.Client(expected))
			if !errors.Is(cliErr, cert.ErrUnexpectedIdentity) {
				t.Errorf("client: %v", cliErr)
			}
			if cliErr != nil && !strings.Contains(cliErr.Error(), "spiffe://cluster.local/ns/shop/sa/cart") {
				t.Errorf("the error does not say who it was: %v", cliErr)
			}
		})
	}
}

func TestClientConfigKeepsItsList(t *testing.T) {
	ca := certtest.New(t)
	server, client := ca.Issue(t, certtest.ID("shop/cart")), ca.Issue(t, certtest.ID("shop/web"))
	list := []spiffe.ID{certtest.ID("shop/other")}
	cfg := client.Client(list)
	list[0] = certtest.ID("shop/cart")
	if _, _, _, err := handshake(t, server.Server(), cfg); !errors.Is(err, cert.ErrUnexpectedIdentity) {
		t.Errorf("a changed slice changed what is expected: %v", err)
	}
}

// hostile makes a configuration that presents whatever template says.
func hostile(t *testing.T, ca *certtest.CA, template *x509.Certificate, extra ...[]byte) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := ca.Sign(key.Public(), template)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(chain[0]))
	c := tls.Certificate{Certificate: append([][]byte{block.Bytes}, extra...), PrivateKey: key}
	return &tls.Config{
		Certificates: []tls.Certificate{c}, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS13,
		InsecureSkipVerify: true, ClientAuth: tls.RequestClientCert,
	}
}

// TestHostileCertificates presents each certificate to our server as a client, and to our client as a server.
func TestHostileCertificates(t *testing.T) {
	now := time.Now()
	good := certtest.ID("shop/cart")
	leaf := func(edit func(*x509.Certificate)) *x509.Certificate {
		c := certtest.Leaf(good, now.Add(-time.Minute), now.Add(time.Hour))
		edit(c)
		return c
	}
	foreign := good
	foreign.TrustDomain = "evil.example"
	ca, stranger := certtest.New(t), certtest.New(t)
	junk := make([][]byte, 0, 20)
	for range 20 {
		chain, err := ca.Sign(mustKey(t).Public(), leaf(func(*x509.Certificate) {}))
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode([]byte(chain[0]))
		junk = append(junk, block.Bytes)
	}
	for _, tc := range []struct {
		name           string
		ca             *certtest.CA
		leaf           *x509.Certificate
		extra          [][]byte
		server, client string // part of what our server says of it as a client, our client of it as a server; "" accepts
	}{
		{name: "good", leaf: leaf(func(*x509.Certificate) {})},
		{
			name: "no name at all", leaf: leaf(func(c *x509.Certificate) { c.URIs = nil }),
			server: "no spiffe id", client: "unexpected peer identity: nobody",
		},
		{
			name: "dns name only", leaf: leaf(func(c *x509.Certificate) { c.URIs, c.DNSNames = nil, []string{"cart.shop"} }),
			server: "no spiffe id", client: "unexpected peer identity: nobody",
		},
		{
			name: "not a spiffe uri", leaf: leaf(func(c *x509.Certificate) { c.URIs = uris("https://cluster.local/ns/shop/sa/cart") }),
			server: "no spiffe id", client: "nobody",
		},
		{
			name: "spiffe of another shape", leaf: leaf(func(c *x509.Certificate) { c.URIs = uris("spiffe://cluster.local/shop/cart") }),
			server: "no spiffe id", client: "nobody",
		},
		{
			name: "escaped slash", leaf: leaf(func(c *x509.Certificate) { c.URIs = uris("spiffe://cluster.local/ns/shop/sa/cart%2Fx") }),
			server: "no spiffe id", client: "nobody",
		},
		{
			name: "query", leaf: leaf(func(c *x509.Certificate) { c.URIs = uris(good.String() + "?x=y") }),
			server: "no spiffe id", client: "nobody",
		},
		{name: "first name unusable, second good", leaf: leaf(func(c *x509.Certificate) { c.URIs = uris("https://x/", good.String()) })},
		{name: "own and foreign trust domain", leaf: leaf(func(c *x509.Certificate) { c.URIs = uris(good.String(), foreign.String()) })},
		{
			name: "foreign trust domain first", leaf: leaf(func(c *x509.Certificate) { c.URIs = uris(foreign.String(), good.String()) }),
			server: "another trust domain",
		},
		{
			name: "foreign trust domain", leaf: leaf(func(c *x509.Certificate) { c.URIs = uris(foreign.String()) }),
			server: "another trust domain", client: "unexpected peer identity: spiffe://evil.example",
		},
		{
			name: "many names", leaf: leaf(func(c *x509.Certificate) { c.URIs = many(65) }),
			server: "65 uri names", client: "65 uri names",
		},
		{
			name: "huge", leaf: leaf(func(c *x509.Certificate) { c.DNSNames = []string{strings.Repeat("a", 33<<10)} }),
			server: "want at most 32768", client: "want at most 32768",
		},
		{
			name: "expired", leaf: leaf(func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Second) }),
			server: "has expired", client: "has expired",
		},
		{
			name: "not yet valid", leaf: leaf(func(c *x509.Certificate) { c.NotBefore = now.Add(time.Hour); c.NotAfter = now.Add(2 * time.Hour) }),
			server: "is before", client: "is before",
		},
		{
			name: "client only", leaf: leaf(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }),
			client: "incompatible key usage",
		},
		{
			name: "server only", leaf: leaf(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }),
			server: "incompatible key usage",
		},
		{
			name: "neither", leaf: leaf(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning} }),
			server: "incompatible key usage", client: "incompatible key usage",
		},
		{
			name: "a CA as a leaf", leaf: leaf(func(c *x509.Certificate) { c.IsCA = true; c.KeyUsage |= x509.KeyUsageCertSign }),
			server: "a CA certificate where a leaf belongs", client: "a CA certificate where a leaf belongs",
		},
		{
			name: "unknown root", ca: stranger, leaf: leaf(func(*x509.Certificate) {}),
			server: "unknown authority", client: "unknown authority",
		},
		{name: "long chain", leaf: leaf(func(*x509.Certificate) {}), extra: junk[:10], server: "chain of 11", client: "chain of 11"},
		{name: "chain with needless certificates", leaf: leaf(func(*x509.Certificate) {}), extra: junk[:9]},
	} {
		t.Run(tc.name, func(t *testing.T) {
			signer := ca
			if tc.ca != nil {
				signer = tc.ca
			}
			own, them := ca.Issue(t, certtest.ID("shop/web")), hostile(t, signer, tc.leaf, tc.extra...)
			_, _, asServer, _ := handshake(t, own.Server(), them)
			wantError(t, "our server", asServer, tc.server)
			_, _, _, asClient := handshake(t, them, own.Client([]spiffe.ID{good}))
			wantError(t, "our client", asClient, tc.client)
		})
	}
}

func wantError(t *testing.T, who string, err error, part string) {
	t.Helper()
	switch {
	case part == "" && err != nil:
		t.Errorf("%s refused: %v", who, err)
	case part != "" && (err == nil || !strings.Contains(err.Error(), part)):
		t.Errorf("%s: got %v, want an error with %q", who, err, part)
	case err != nil && len(err.Error()) > 2048:
		t.Errorf("%s: error of %d bytes", who, len(err.Error()))
	}
}

func uris(list ...string) (all []*url.URL) {
	for _, s := range list {
		all = append(all, certtest.URI(s))
	}
	return all
}

func many(n int) (all []*url.URL) {
	for i := range n {
		all = append(all, certtest.URI(fmt.Sprintf("spiffe://cluster.local/ns/shop/sa/cart%d", i)))
	}
	return all
}

func mustKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// TestRootRotation walks through a rotation: certificates of the old and of the new root accept each other while both
// roots are distributed, and a node that never heard of the new root refuses it.
func TestRootRotation(t *testing.T) {
	ca := certtest.New(t)
	a, b := certtest.ID("a/a"), certtest.ID("b/b")
	old := ca.Issue(t, a) // signed by the old root, knows the old root only
	ca.AddRoot(t)
	window := ca.Issue(t, a) // signed by the old root, knows both
	ca.SignWithNewest()
	next := ca.Issue(t, b) // signed by the new root, knows both
	for _, tc := range []struct {
		name           string
		server, client *cert.Certificate
		ok             bool
	}{
		{"old server, window client", old, window, true},
		{"window server, old client", window, old, true},
		{"window server, next client", window, next, true},
		{"next server, window client", next, window, true},
		{"old server refuses next client", old, next, false},
		{"old client refuses next server", next, old, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, _, srvErr, cliErr := handshake(t, tc.server.Server(), tc.client.Client([]spiffe.ID{tc.server.ID}))
			if ok := srvErr == nil && cliErr == nil; ok != tc.ok {
				t.Errorf("server %v, client %v", srvErr, cliErr)
			}
		})
	}
}

func BenchmarkClientConfig(b *testing.B) {
	crt := certtest.New(b).Issue(b, certtest.ID("a/a"))
	expected := []spiffe.ID{certtest.ID("b/b")}
	b.ReportAllocs()
	for b.Loop() {
		crt.Client(expected)
	}
}

func BenchmarkHandshake(b *testing.B) {
	ca := certtest.New(b)
	server, client := ca.Issue(b, certtest.ID("a/a")), ca.Issue(b, certtest.ID("b/b"))
	cfg := client.Client([]spiffe.ID{certtest.ID("a/a")})
	b.ReportAllocs()
	for b.Loop() {
		if _, _, srvErr, cliErr := handshake(b, server.Server(), cfg); srvErr != nil || cliErr != nil {
			b.Fatal(srvErr, cliErr)
		}
	}
}
