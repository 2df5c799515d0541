package controller

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
	"sync"
	"time"

	"github.com/ambit-mesh/ambit/controller/ca"
)

const (
	// servingLifetime is that of the controller's own certificate; it is renewed at half of it.
	servingLifetime = 24 * time.Hour
	// servingRetry is how long after a failure another certificate is asked for.
	servingRetry = 10 * time.Second
)

// servingCert is the certificate at the gRPC port, signed by the mesh's own authority. It is renewed when a client comes and
// finds it half way through its life, or finds that the authority has changed: after a root rotation clients see the new root.
type servingCert struct {
	signer ca.Signer
	names  []string
	now    func() time.Time
	log    *slog.Logger

	mu      sync.Mutex
	cert    *tls.Certificate
	renew   time.Time
	changed <-chan struct{} // closed when what signed cert no longer signs
}

func newServingCert(s ca.Signer, names []string, log *slog.Logger, now func() time.Time) *servingCert {
	return &servingCert{signer: s, names: names, now: now, log: log}
}

// get implements tls.Config.GetCertificate. While renewing fails, the old certificate serves on.
func (c *servingCert) get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cert != nil && c.now().Before(c.renew) && !closed(c.changed) {
		return c.cert, nil
	}
	changed := c.signer.Changed()
	cert, err := c.issue(hello.Context())
	if err != nil {
		if c.cert != nil && c.now().Before(c.cert.Leaf.NotAfter) {
			c.log.Warn("serving certificate cannot be renewed; the one before serves on", "err", err)
			c.renew, c.changed = c.now().Add(servingRetry), nil
			return c.cert, nil
		}
		return nil, fmt.Errorf("serving certificate: %w", err)
	}
	c.cert, c.changed = cert, changed
	c.renew = c.now().Add(cert.Leaf.NotAfter.Sub(c.now()) / 2)
	return cert, nil
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false // also for nil: never
	}
}

func (c *servingCert) issue(ctx context.Context) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: c.names}, key)
	if err != nil {
		return nil, err
	}
	req := ca.Request{CSR: csr, Key: key.Public(), DNSNames: c.names, Lifetime: servingLifetime}
	chain, err := c.signer.Sign(ctx, req)
	if err != nil {
		return nil, err
	}
	if err := chain.Check(req, c.now()); err != nil {
		return nil, fmt.Errorf("signer's answer: %w", err)
	}
	out := &tls.Certificate{PrivateKey: key}
	for _, text := range append([][]byte{chain.Leaf}, chain.Intermediates...) {
		block, _ := pem.Decode(text)
		if block == nil {
			return nil, errors.New("signer gave no PEM")
		}
		out.Certificate = append(out.Certificate, block.Bytes)
	}
	out.Leaf, err = x509.ParseCertificate(out.Certificate[0])
	return out, err
}
