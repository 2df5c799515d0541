package controller

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ambit-mesh/ambit/controller/ca"
)

func openSelfSigned(t *testing.T, dir string) *ca.SelfSigned {
	t.Helper()
	s, err := ca.OpenSelfSigned(t.Context(), ca.SelfSignedConfig{
		Store: ca.NewFolder(dir), TrustDomain: "cluster.local", Windows: ca.Windows{Overlap: 24 * time.Hour, Settle: time.Hour},
		Log: slog.New(slog.DiscardHandler), Metrics: ca.NewAuthorityMetrics(prometheus.NewRegistry()), Now: time.Now,
		RootLifetime: 100 * time.Hour, Poll: 15 * time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// connect makes a TLS connection as a client that trusts roots and calls the server by name, and gives the server's certificate.
func connect(cfg *tls.Config, roots []byte, name string) (*x509.Certificate, error) {
	c, s := net.Pipe()
	defer c.Close()
	defer s.Close()
	served := make(chan error, 1)
	go func() { served <- tls.Server(s, cfg).Handshake(); s.Close() }()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(roots)
	conn := tls.Client(c, &tls.Config{RootCAs: pool, ServerName: name, NextProtos: []string{"h2"}})
	if err := conn.Handshake(); err != nil {
		c.Close()
		return nil, errors.Join(err, <-served)
	}
	cert := conn.ConnectionState().PeerCertificates[0]
	go func() { _, _ = conn.Read(make([]byte, 1)) }() // session tickets
	return cert, <-served
}

// TestServingThroughRotation: a client whose roots are an hour old always reaches the controller, by our name and by Istio's,
// and the certificate is renewed in time and follows the root, not the client.
func TestServingThroughRotation(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := openSelfSigned(t, dir)
		names := Config{}.Defaults().ServerNames
		cfg := serverTLS(newServingCert(s, names, slog.New(slog.DiscardHandler), time.Now))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Lead(ctx, nil) }()
		roots, issuers := s.Roots(), map[string]int{}
		var last *x509.Certificate
		for range 90 {
			for _, name := range []string{"ambit-controller.ambit-system.svc", "istiod.istio-system.svc"} {
				cert, err := connect(cfg, roots, name)
				if err != nil {
					t.Fatal(name, err)
				}
				if last != nil && !cert.Equal(last) {
					issuers[string(cert.AuthorityKeyId)]++
				}
				last = cert
			}
			roots = s.Roots()
			time.Sleep(time.Hour)
			synctest.Wait()
		}
		renewals := 0
		for _, n := range issuers {
			renewals += n
		}
		if len(issuers) != 2 || renewals < 6 || renewals > 12 {
			t.Errorf("renewed %d times by %d roots in 90 hours", renewals, len(issuers))
		}
		cancel()
		<-ended
	})
}

// flaky is a signer that fails when told.
type flaky struct {
	ca.Signer
	broken bool
	calls  int
}

func (f *flaky) Sign(ctx context.Context, r ca.Request) (ca.Chain, error) {
	f.calls++
	if f.broken {
		return ca.Chain{}, ca.ErrRetry
	}
	return f.Signer.Sign(ctx, r)
}

// TestServingSignerAway: while no certificate is to be had, the one before serves until it ends, and the signer is not asked
// by every client.
func TestServingSignerAway(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := &flaky{Signer: openSelfSigned(t, dir)}
		c := newServingCert(s, []string{"istiod.istio-system.svc"}, slog.New(slog.DiscardHandler), time.Now)
		first, err := c.get(&tls.ClientHelloInfo{})
		if err != nil {
			t.Fatal(err)
		}
		s.broken = true
		time.Sleep(13 * time.Hour)
		for range 100 {
			if again, err := c.get(&tls.ClientHelloInfo{}); err != nil || again != first {
				t.Fatalf("%v", err)
			}
		}
		if s.calls != 2 {
			t.Errorf("the signer was asked %d times, want 2", s.calls)
		}
		time.Sleep(12 * time.Hour)
		if _, err := c.get(&tls.ClientHelloInfo{}); err == nil {
			t.Error("serves an expired certificate")
		}
		s.broken = false
		if _, err := c.get(&tls.ClientHelloInfo{}); err != nil {
			t.Errorf("does not recover: %v", err)
		}
	})
}
