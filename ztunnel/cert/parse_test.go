package cert_test

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/ambit-mesh/ambit/controller/api/ca"
	"github.com/ambit-mesh/ambit/ztunnel/cert"
	"github.com/ambit-mesh/ambit/ztunnel/cert/certtest"
)

func TestRequest(t *testing.T) {
	key, text, err := cert.NewRequest(web)
	if err != nil {
		t.Fatal(err)
	}
	block, rest := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE REQUEST" || len(rest) != 0 {
		t.Fatalf("not one PEM request: %q", text)
	}
	req, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if err := req.CheckSignature(); err != nil {
		t.Error(err)
	}
	if req.SignatureAlgorithm != x509.ECDSAWithSHA256 || req.Subject.String() != "" || req.PublicKey == key.Public() {
		t.Errorf("algorithm %v, subject %q", req.SignatureAlgorithm, req.Subject)
	}
	if len(req.URIs) != 1 || req.URIs[0].String() != web.String() {
		t.Errorf("names %v", req.URIs)
	}
	if len(req.Extensions) != 1 || !req.Extensions[0].Critical {
		t.Errorf("extensions %+v: want one, critical", req.Extensions)
	}
}

// TestParse spoils a CA's answer in every way that matters.
func TestParse(t *testing.T) {
	now := time.Now()
	signer := certtest.New(t)
	key := mustKey(t)
	sign := func(tb *x509.Certificate) []string {
		t.Helper()
		chain, err := signer.Sign(key.Public(), tb)
		if err != nil {
			t.Fatal(err)
		}
		return chain
	}
	good := sign(certtest.Leaf(web, now, now.Add(time.Hour)))
	for _, tc := range []struct {
		name     string
		response []string
		err      string
	}{
		{name: "good", response: good},
		{name: "text before and after", response: []string{"# leaf\n" + good[0], "# roots\n" + good[1] + "\n\n"}},
		{name: "a root that nobody understands among others", response: []string{
			good[0],
			"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n" + good[1],
		}},
		{name: "empty", err: "empty response"},
		{name: "no root", response: good[:1], err: "without a root"},
		{name: "not PEM", response: []string{"hello", good[1]}, err: "not a PEM certificate"},
		{name: "a key", response: []string{strings.ReplaceAll(good[0], "CERTIFICATE", "PRIVATE KEY"), good[1]}, err: "not a PEM certificate"},
		{name: "two leaves in one", response: []string{good[0] + good[0], good[1]}, err: "more than one"},
		{name: "DER damaged", response: []string{"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", good[1]}, err: "malformed"},
		{name: "no usable root", response: []string{good[0], "nothing"}, err: "no usable root"},
		{name: "many elements", response: append(make([]string, 20), good...), err: "chain of 22"},
		{name: "huge", response: []string{good[0], strings.Repeat(" ", 2<<20)}, err: "bytes: want at most"},
		{name: "somebody else's", response: sign(certtest.Leaf(cart, now, now.Add(time.Hour))), err: "issued to spiffe://cluster.local/ns/shop/sa/cart"},
		{name: "no name", response: sign(&x509.Certificate{NotBefore: now, NotAfter: now.Add(time.Hour)}), err: "no spiffe id"},
		{name: "expired", response: sign(certtest.Leaf(web, now.Add(-time.Hour), now.Add(-time.Minute))), err: "expired"},
		{name: "not yet valid", response: sign(certtest.Leaf(web, now.Add(time.Hour), now.Add(2*time.Hour))), err: "not yet valid"},
		{name: "another root", response: []string{good[0], must(certtest.New(t).Sign(key.Public(), certtest.Leaf(web, now, now.Add(time.Hour))))[1]}, err: "unknown authority"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			crt, err := cert.Parse(web, key, tc.response, now)
			switch {
			case tc.err == "" && err != nil:
				t.Error(err)
			case tc.err == "" && (crt.Server() == nil || crt.NotAfter().IsZero()):
				t.Error("incomplete certificate")
			case tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)):
				t.Errorf("got %v, want an error with %q", err, tc.err)
			}
		})
	}
	if _, err := cert.Parse(web, mustKey(t), good, now); err == nil || !strings.Contains(err.Error(), "another key") {
		t.Errorf("another key: %v", err)
	}
}

func must(s []string, err error) []string {
	if err != nil {
		panic(err)
	}
	return s
}

// FuzzParse: a CA may answer anything.
func FuzzParse(f *testing.F) {
	key := mustKey(f)
	now := time.Now()
	chain, err := certtest.New(f).Sign(key.Public(), certtest.Leaf(web, now, now.AddDate(50, 0, 0)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(chain[0], chain[0], chain[1])
	f.Add(chain[0], "", chain[1])
	f.Add("", "", "")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		for _, response := range [][]string{{a}, {a, c}, {a, b, c}} {
			crt, err := cert.Parse(web, key, response, now)
			if err == nil && (crt.Leaf().URIs[0].String() != web.String() || !key.PublicKey.Equal(crt.Leaf().PublicKey)) {
				t.Errorf("accepted %q", response)
			}
		}
	})
}

// fakeService records what arrives on the wire.
type fakeService struct {
	ca.UnimplementedIstioCertificateServiceServer
	got  *ca.IstioCertificateRequest
	ca   *certtest.CA
	fail error
}

func (f *fakeService) CreateCertificate(ctx context.Context, r *ca.IstioCertificateRequest) (*ca.IstioCertificateResponse, error) {
	f.got = r
	if f.fail != nil {
		return nil, f.fail
	}
	chain, err := f.ca.CreateCertificate(ctx, []byte(r.Csr), time.Duration(r.ValidityDuration)*time.Second, web)
	return &ca.IstioCertificateResponse{CertChain: chain}, err
}

func TestGRPC(t *testing.T) {
	l := bufconn.Listen(1 << 20)
	srv, svc := grpc.NewServer(), &fakeService{ca: certtest.New(t)}
	ca.RegisterIstioCertificateServiceServer(srv, svc)
	done := make(chan struct{})
	go func() { defer close(done); srv.Serve(l) }()
	t.Cleanup(func() { srv.Stop(); <-done })
	conn, err := grpc.NewClient("passthrough:///ca", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })

	key, csr, err := cert.NewRequest(web)
	if err != nil {
		t.Fatal(err)
	}
	signer := cert.NewGRPC(conn)
	chain, err := signer.CreateCertificate(t.Context(), csr, time.Hour, web)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cert.Parse(web, key, chain, time.Now()); err != nil {
		t.Error(err)
	}
	if got := svc.got.Metadata.Fields["ImpersonatedIdentity"].GetStringValue(); got != web.String() || svc.got.ValidityDuration != 3600 {
		t.Errorf("asked for %q, %d s", got, svc.got.ValidityDuration)
	}
	svc.fail = status.Error(codes.Unauthenticated, "who are you")
	_, err = signer.CreateCertificate(t.Context(), csr, time.Hour, web)
	if s := status.Convert(errors.Unwrap(err)); s.Code() != codes.Unauthenticated {
		t.Errorf("the status is lost: %v", err)
	}
}
