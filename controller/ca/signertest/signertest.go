// Package signertest answers whether a signer keeps the contract of ca.Signer: whoever connects an external one (cert-manager,
// SPIRE, Vault) runs it against that. It makes requests and looks at the answers; it holds no signer of its own. Tests call it.
package signertest

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/ambit-mesh/ambit/controller/api/spiffe"
	"github.com/ambit-mesh/ambit/controller/ca"
)

// Run fails t for everything that s does wrong. now is the clock that s has; life is what it grants at least.
func Run(t *testing.T, s ca.Signer, now func() time.Time, life time.Duration) {
	t.Helper()
	for _, err := range Problems(t.Context(), s, now, life) {
		t.Error(err)
	}
}

// Problems is everything that s does wrong.
func Problems(ctx context.Context, s ca.Signer, now func() time.Time, life time.Duration) (all []error) {
	id := spiffe.ID{TrustDomain: "cluster.local", Namespace: "shop", ServiceAccount: "web"}
	small, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return []error{err}
	}
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return []error{err}
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return []error{err}
	}
	serials := map[string]bool{}
	for _, c := range []struct {
		name string
		key  crypto.Signer
		id   spiffe.ID
		dns  []string
		life time.Duration
	}{
		{"workload", p256, id, nil, life},
		{"the same again", p256, id, nil, life},
		{"rsa", small, id, nil, life},
		{"p384", p384, id, nil, life},
		{"short", p256, id, nil, time.Minute},
		{"far too long", p256, id, nil, 100 * 365 * 24 * time.Hour},
		{"server", p256, spiffe.ID{}, []string{"ambit-controller.ambit-system.svc", "istiod.istio-system.svc"}, life},
	} {
		leaf, err := one(ctx, s, now, c.key, c.id, c.dns, c.life)
		if err != nil {
			all = append(all, fmt.Errorf("%s: %w", c.name, err))
			continue
		}
		if serials[leaf.SerialNumber.String()] {
			all = append(all, fmt.Errorf("%s: serial number used before", c.name))
		}
		serials[leaf.SerialNumber.String()] = true
		if c.life == life && leaf.NotAfter.Before(now().Add(life/2)) {
			all = append(all, fmt.Errorf("%s: asked for %s, given until %s", c.name, life, leaf.NotAfter))
		}
		if leaf.NotBefore.After(now()) {
			all = append(all, fmt.Errorf("%s: not valid yet", c.name))
		}
	}
	return append(all, edges(ctx, s, now, p256, id, life)...)
}

// edges are requests that cannot be granted, requests at once, and a caller that has left.
func edges(ctx context.Context, s ca.Signer, now func() time.Time, key crypto.Signer, id spiffe.ID, life time.Duration) (all []error) {
	if _, err := one(ctx, s, now, key, spiffe.ID{}, nil, life); err == nil {
		all = append(all, errors.New("a certificate without a name was made"))
	}
	if _, err := one(ctx, s, now, key, spiffe.ID{TrustDomain: "cluster.local", Namespace: "a/b", ServiceAccount: ".."}, nil, life); err == nil {
		all = append(all, errors.New("a certificate for what is no identity was made"))
	}
	var group sync.WaitGroup
	problems := make(chan error, 16)
	for range cap(problems) {
		group.Go(func() {
			if _, err := one(ctx, s, now, key, id, nil, life); err != nil {
				problems <- fmt.Errorf("many at once: %w", err)
			}
		})
	}
	group.Wait()
	close(problems)
	for err := range problems {
		all = append(all, err)
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	left := make(chan struct{})
	go func() { defer close(left); _, _ = one(gone, s, now, key, id, nil, life) }()
	select {
	case <-left:
	case <-time.After(5 * time.Second):
		all = append(all, errors.New("does not return when the caller has left"))
	}
	return all
}

// one asks for a certificate and checks it.
func one(ctx context.Context, s ca.Signer, now func() time.Time, key crypto.Signer, id spiffe.ID, dns []string, life time.Duration) (*x509.Certificate, error) {
	template := &x509.CertificateRequest{DNSNames: dns}
	if id != (spiffe.ID{}) {
		u, err := url.Parse(id.String())
		if err != nil {
			return nil, err
		}
		template.URIs = []*url.URL{u}
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		return nil, err
	}
	r := ca.Request{CSR: csr, Key: key.Public(), ID: id, DNSNames: dns, Lifetime: life}
	chain, err := s.Sign(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := chain.Check(r, now()); err != nil {
		return nil, err
	}
	if !bytes.Equal(chain.Roots, s.Roots()) {
		return nil, errors.New("chain comes with other roots than Roots gives")
	}
	block, _ := pem.Decode(chain.Leaf)
	return x509.ParseCertificate(block.Bytes)
}
