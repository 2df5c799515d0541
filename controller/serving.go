package controller

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"sync"
	"time"

	"github.com/ambit-mesh/ambit/controller/auth"
	"github.com/ambit-mesh/ambit/controller/ca"
)

// servingLifetime is that of the controller's own certificate; it is renewed at half of it.
const servingLifetime = 24 * time.Hour

// servingCert is the certificate at the gRPC port, signed by the mesh's own authority and renewed when a client comes and
// finds it half way through its life.
type servingCert struct {
	signer ca.Signer
	names  []string
	now    func() time.Time

	mu    sync.Mutex
	cert  *tls.Certificate
	renew time.Time
}

func newServingCert(s ca.Signer, names []string, now func() time.Time) *servingCert {
	return &servingCert{signer: s, names: names, now: now}
}

// get implements tls.Config.GetCertificate. While renewing fails, the old certificate serves on.
func (c *servingCert) get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cert != nil && c.now().Before(c.renew) {
		return c.cert, nil
	}
	cert, err := c.issue(hello.Context())
	if err != nil {
		if c.cert != nil {
			return c.cert, nil
		}
		return nil, fmt.Errorf("serving certificate: %w", err)
	}
	c.cert = cert
	life := cert.Leaf.NotAfter.Sub(c.now())
	c.renew = c.now().Add(life / 2)
	return cert, nil
}

func (c *servingCert) issue(ctx context.Context) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	chain, err := c.signer.Sign(ctx, ca.Request{Key: key.Public(), DNSNames: c.names, Lifetime: servingLifetime})
	if err != nil {
		return nil, err
	}
	out := &tls.Certificate{PrivateKey: key}
	for _, text := range append([][]byte{chain.Leaf}, chain.Intermediates...) {
		block, _ := pem.Decode(text)
		if block == nil {
			return nil, fmt.Errorf("signer gave no PEM")
		}
		out.Certificate = append(out.Certificate, block.Bytes)
	}
	out.Leaf, err = x509.ParseCertificate(out.Certificate[0])
	return out, err
}

func openVerifier(files []string) (*auth.Verifier, error) {
	var keys []crypto.PublicKey
	for _, f := range files {
		key, err := auth.LoadPublicKey(f)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return auth.NewVerifier(keys, time.Now)
}
