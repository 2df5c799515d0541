// Package certtest is a certificate authority for tests: a cert.Signer in memory whose answers and failures the test
// chooses, and which can issue the certificates that a real CA never would. Safe for concurrent use.
package certtest

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ambit-mesh/ambit/controller/api/spiffe"
	"github.com/ambit-mesh/ambit/ztunnel/cert"
)

// CA signs. Make it with New.
type CA struct {
	mu     sync.Mutex
	roots  []*x509.Certificate // all returned with every certificate
	keys   []*ecdsa.PrivateKey // theirs
	signer int                 // which of them signs
	serial int64
	calls  []spiffe.ID
	hook   func(ctx context.Context, id spiffe.ID) error
}

// New makes a CA with a root of its own, valid for ten years from now.
func New(tb testing.TB) *CA {
	tb.Helper()
	c := &CA{}
	if err := c.newRoot("root 1"); err != nil {
		tb.Fatal(err)
	}
	return c
}

// ID makes an identity of trust domain cluster.local from "namespace/service account".
func ID(s string) spiffe.ID {
	ns, sa, _ := strings.Cut(s, "/")
	return spiffe.ID{TrustDomain: "cluster.local", Namespace: ns, ServiceAccount: sa}
}

// AddRoot begins a root rotation: from now on certificates come with one root more, still signed as before.
func (c *CA) AddRoot(tb testing.TB) {
	tb.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.newRoot(fmt.Sprintf("root %d", len(c.roots)+1)); err != nil {
		tb.Fatal(err)
	}
}

// SignWithNewest makes the newest root sign from now on.
func (c *CA) SignWithNewest() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.signer = len(c.roots) - 1
}

// Intercept makes hook run at the start of each CreateCertificate; its error is the answer.
func (c *CA) Intercept(hook func(ctx context.Context, id spiffe.ID) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hook = hook
}

// Calls are the identities asked for so far, in order.
func (c *CA) Calls() []spiffe.ID {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]spiffe.ID(nil), c.calls...)
}

// CreateCertificate implements cert.Signer: valid from now on for ttl.
func (c *CA) CreateCertificate(ctx context.Context, csr []byte, ttl time.Duration, id spiffe.ID) ([]string, error) {
	c.mu.Lock()
	c.calls = append(c.calls, id)
	hook := c.hook
	c.mu.Unlock()
	if hook != nil {
		if err := hook(ctx, id); err != nil {
			return nil, err
		}
	}
	block, _ := pem.Decode(csr)
	if block == nil {
		return nil, errors.New("no PEM request")
	}
	req, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, err
	}
	if err := req.CheckSignature(); err != nil {
		return nil, err
	}
	now := time.Now()
	return c.Sign(req.PublicKey, Leaf(id, now, now.Add(ttl)))
}

// Leaf is the template of an ordinary workload certificate; tests spoil it before Sign.
func Leaf(id spiffe.ID, notBefore, notAfter time.Time) *x509.Certificate {
	return &x509.Certificate{
		NotBefore: notBefore, NotAfter: notAfter,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
		URIs:                  []*url.URL{URI(id.String())},
	}
}

// URI parses what may well be no SPIFFE id.
func URI(s string) *url.URL {
	u, err := url.Parse(s)
	if err != nil {
		panic(err)
	}
	return u
}

// Sign issues whatever the template says, for a public key, and answers as the CA does: leaf, then root bundle.
func (c *CA) Sign(pub crypto.PublicKey, template *x509.Certificate) ([]string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.serial++
	template.SerialNumber = big.NewInt(c.serial)
	der, err := x509.CreateCertificate(rand.Reader, template, c.roots[c.signer], pub, c.keys[c.signer])
	if err != nil {
		return nil, err
	}
	var bundle strings.Builder
	for _, r := range c.roots {
		bundle.WriteString(encode(r.Raw))
	}
	return []string{encode(der), bundle.String()}, nil
}

// Issue makes a certificate of id with a key of its own, valid for an hour from now, without a Store.
func (c *CA) Issue(tb testing.TB, id spiffe.ID) *cert.Certificate {
	tb.Helper()
	key, csr, err := cert.NewRequest(id)
	if err != nil {
		tb.Fatal(err)
	}
	chain, err := c.CreateCertificate(context.Background(), csr, time.Hour, id)
	if err != nil {
		tb.Fatal(err)
	}
	crt, err := cert.Parse(id, key, chain, time.Now())
	if err != nil {
		tb.Fatal(err)
	}
	return crt
}

func encode(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// newRoot appends a root.
func (c *CA) newRoot(name string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	c.serial++
	t := &x509.Certificate{
		SerialNumber: big.NewInt(c.serial), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(10, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return err
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	c.roots, c.keys = append(c.roots, root), append(c.keys, key)
	return nil
}
