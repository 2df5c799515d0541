package auth

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
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
)

type fixed struct {
	want string
	give Caller
}

func (f fixed) Authenticate(_ context.Context, token string) (Caller, error) {
	if token != f.want {
		return Caller{}, errors.New("not the token")
	}
	return f.give, nil
}

// issuer is a root of some mesh.
type issuer struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newIssuer(t testing.TB) issuer {
	t.Helper()
	key := ecKey(t, elliptic.P256()).(*ecdsa.PrivateKey)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: epoch.Add(-time.Hour), NotAfter: epoch.Add(48 * time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign,
	}
	return issuer{sign(t, template, template, key, key), key}
}

func sign(t testing.TB, template, parent *x509.Certificate, key, by *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func (i issuer) roots() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.cert.Raw})
}

// leaf is a client's certificate with the given names.
func (i issuer) leaf(t testing.TB, edit func(*x509.Certificate), uris ...string) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: epoch.Add(-time.Minute), NotAfter: epoch.Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	for _, s := range uris {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		template.URIs = append(template.URIs, u)
	}
	if edit != nil {
		edit(template)
	}
	return sign(t, template, i.cert, ecKey(t, elliptic.P256()).(*ecdsa.PrivateKey), i.key)
}

func call(t testing.TB, headers []string, certs ...*x509.Certificate) context.Context {
	md := metadata.MD{"authorization": headers}
	ctx := metadata.NewIncomingContext(t.Context(), md)
	return peer.NewContext(ctx, &peer.Peer{AuthInfo: credentials.TLSInfo{State: tls.ConnectionState{PeerCertificates: certs}}})
}

func TestCalls(t *testing.T) {
	ours, theirs := newIssuer(t), newIssuer(t)
	const id = "spiffe://td/ns/ambit-system/sa/ambit-ztunnel"
	good := ours.leaf(t, nil, id)
	account := Caller{Namespace: "ambit-system", ServiceAccount: "ambit-ztunnel"}
	tok, bad := []string{"Bearer tok"}, []string{"Bearer other"}
	chain := make([]*x509.Certificate, maxPeerChain+1)
	for i := range chain {
		chain[i] = good
	}
	for _, tc := range []struct {
		name    string
		headers []string
		certs   []*x509.Certificate
		want    Caller
		err     string
	}{
		{"nothing", nil, nil, Caller{}, "no bearer token and no client certificate"},
		{"token", tok, nil, node1, ""},
		{"token with a newline", []string{"bearer tok\n"}, nil, node1, ""},
		{"certificate", nil, []*x509.Certificate{good}, account, ""},
		{"both", tok, []*x509.Certificate{good}, node1, ""},
		{"certificate of another", tok, []*x509.Certificate{ours.leaf(t, nil, "spiffe://td/ns/shop/sa/web")}, Caller{}, "client certificate is of shop/web, bearer token of ambit-system/ambit-ztunnel"},
		{"bad token beside a good certificate", bad, []*x509.Certificate{good}, Caller{}, "not the token"},
		{"good token beside a foreign certificate", tok, []*x509.Certificate{theirs.leaf(t, nil, id)}, Caller{}, "unknown authority"},
		{"expired", nil, []*x509.Certificate{ours.leaf(t, func(c *x509.Certificate) { c.NotAfter = epoch.Add(-time.Second) }, id)}, Caller{}, "expired"},
		{"for servers", nil, []*x509.Certificate{ours.leaf(t, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }, id)}, Caller{}, "key usage"},
		{"foreign trust domain", nil, []*x509.Certificate{ours.leaf(t, nil, "spiffe://other/ns/ambit-system/sa/ambit-ztunnel")}, Caller{}, "trust domain"},
		{"no name", nil, []*x509.Certificate{ours.leaf(t, nil)}, Caller{}, "client certificate: no spiffe id"},
		{"two names", nil, []*x509.Certificate{ours.leaf(t, nil, id, "spiffe://td/ns/a/sa/b")}, Caller{}, "client certificate"},
		{"path tricks", nil, []*x509.Certificate{ours.leaf(t, nil, "spiffe://td/ns/ambit-system/sa/../sa/ambit-ztunnel")}, Caller{}, "client certificate"},
		{"the root itself", nil, []*x509.Certificate{ours.cert}, Caller{}, "client certificate"},
		{"endless chain", nil, chain, Caller{}, "at most"},
		{"no bearer", []string{"tok"}, nil, Caller{}, "no bearer token"},
		{"another scheme", []string{"Basic tok"}, nil, Caller{}, "no bearer token"},
		{"empty", []string{"Bearer "}, nil, Caller{}, "empty"},
		{"enormous", []string{"Bearer " + strings.Repeat("x", MaxToken+1)}, nil, Caller{}, "at most"},
		{"two tokens", []string{"Bearer tok", "Bearer tok"}, nil, Caller{}, "more than one"},
	} {
		var known Caller
		c := Calls{Tokens: fixed{"tok", node1}, Certificates: NewCertificates("td", ours.roots, at(0)), Known: func(_ context.Context, c Caller) { known = c }}
		got, err := c.Authenticate(call(t, tc.headers, tc.certs...))
		if known != tc.want {
			t.Errorf("%s: known as %v", tc.name, known)
		}
		if got != tc.want || (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
			t.Errorf("%s: %v, %v; want %s", tc.name, got, err, tc.err)
		}
	}
	c := Calls{Tokens: fixed{"tok", node1}}
	if _, err := c.Authenticate(call(t, tok, good)); err == nil {
		t.Error("a certificate was ignored where none is accepted")
	}
	if _, err := c.Authenticate(t.Context()); !errors.Is(err, ErrNoCredentials) {
		t.Error(err)
	}
}

// TestCode: a caller whose token nobody could look at is told to try again, whichever of several could not.
func TestCode(t *testing.T) {
	away := Chain{{"lab", fixed{"one", node1}}, {"review", unavailable{}}}
	if _, err := away.Authenticate(t.Context(), "two"); Code(err) != codes.Unavailable {
		t.Errorf("nobody looked: %v", err)
	}
	if _, err := away[:1].Authenticate(t.Context(), "two"); Code(err) != codes.Unauthenticated {
		t.Errorf("refused: %v", err)
	}
}

type unavailable struct{}

func (unavailable) Authenticate(context.Context, string) (Caller, error) {
	return Caller{}, fmt.Errorf("review: %w", ErrUnavailable)
}

// TestRootsChange: a certificate counts as long as its root is trusted, and no longer.
func TestRootsChange(t *testing.T) {
	first, second := newIssuer(t), newIssuer(t)
	roots := first.roots()
	c := NewCertificates("td", func() []byte { return roots }, at(0))
	a, b := first.leaf(t, nil, "spiffe://td/ns/a/sa/a"), second.leaf(t, nil, "spiffe://td/ns/b/sa/b")
	check := func(cert *x509.Certificate, want bool) {
		t.Helper()
		if _, err := c.Verify([]*x509.Certificate{cert}); (err == nil) != want {
			t.Error(err)
		}
	}
	check(a, true)
	check(b, false)
	roots = append(first.roots(), second.roots()...)
	check(a, true)
	check(b, true)
	roots = second.roots()
	check(a, false)
	check(b, true)
	roots = nil
	check(b, false)
}

func TestChain(t *testing.T) {
	c := Chain{{"lab", fixed{"one", node1}}, {"review", fixed{"two", Caller{Namespace: "a"}}}}
	for token, want := range map[string]Caller{"one": node1, "two": {Namespace: "a"}} {
		if got, err := c.Authenticate(t.Context(), token); err != nil || got != want {
			t.Errorf("%s: %v %v", token, got, err)
		}
	}
	_, err := c.Authenticate(t.Context(), "three")
	if err == nil || !strings.Contains(err.Error(), "lab: not the token") || !strings.Contains(err.Error(), "review: not the token") {
		t.Errorf("the error does not name each: %v", err)
	}
	if _, err := (Chain{}).Authenticate(t.Context(), "one"); err == nil {
		t.Error("nobody checks, and all is well")
	}
}
