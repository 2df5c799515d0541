// Package cert answers: which certificate does this process present for an identity, and is the peer's acceptable?
//
// It makes keys (which never leave the process), asks the CA, renews at half life, and gives ready-made TLS
// configurations. It decides who a peer is, never what it may do (policy) and opens no connections of its own but the
// CA's, which the caller dials. hbone uses the configurations, inpod holds identities, admin shows the status.
//
//	          Hold/Get           fetched               half life
//	(none) ---------> Initializing ------> Available <-----------+
//	   ^                  |                   |  ^  renewed or   |
//	   |                  | refused           |  |  retried      |
//	   |                  v       expired     |  +---------------+
//	   +---------- Unavailable <--------------+
//	   released        retried with backoff
//
// A Store is safe for concurrent use; a Certificate is immutable.
package cert

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/ambit-mesh/ambit/controller/api/spiffe"
)

const (
	// maxChain bounds the certificates of a chain, ours or a peer's, roots of a bundle apart.
	maxChain = 10
	// maxRoots bounds the roots of a bundle. Two are normal during a root rotation.
	maxRoots = 64
	// maxResponse bounds the PEM text that a CA may answer, in bytes.
	maxResponse = 1 << 20
)

// Certificate is one identity's certificate with its private key, roots and TLS configurations.
type Certificate struct {
	ID spiffe.ID
	// Generation grows with each certificate a Store obtains: a connection pool that remembers it knows after a rotation
	// which of its connections are made with an older one.
	Generation uint64
	// Chain is the leaf and its intermediates, without the root. Never empty.
	Chain []*x509.Certificate
	// Roots are whom this identity trusts: as the CA said when it issued the certificate.
	Roots []*x509.Certificate

	pool   *x509.CertPool
	server *tls.Config
	client *tls.Config
}

// Leaf is the certificate that states the identity.
func (c *Certificate) Leaf() *x509.Certificate { return c.Chain[0] }

// NotAfter is when the certificate expires.
func (c *Certificate) NotAfter() time.Time { return c.Chain[0].NotAfter }

// Parse makes a Certificate of a CA's answer to a request made with key: the leaf, each intermediate on its own and last
// the root bundle (IstioCertificateResponse.cert_chain). It refuses what would fail later, at the peer: a leaf of another
// identity or key, one that is not valid at now, or one that the returned roots did not sign.
func Parse(id spiffe.ID, key crypto.Signer, response []string, now time.Time) (*Certificate, error) {
	c := &Certificate{ID: id}
	if err := c.parseChain(response); err != nil {
		return nil, fmt.Errorf("certificate of %s: %w", id, err)
	}
	if err := c.check(key, now); err != nil {
		return nil, fmt.Errorf("certificate of %s: %w", id, err)
	}
	c.configure(key)
	return c, nil
}

func (c *Certificate) parseChain(response []string) error {
	size := 0
	for _, s := range response {
		size += len(s)
	}
	switch n := len(response); {
	case n == 0:
		return errors.New("empty response")
	case n == 1:
		return errors.New("response without a root")
	case n > maxChain+1:
		return fmt.Errorf("chain of %d elements: want at most %d", n, maxChain+1)
	case size > maxResponse:
		return fmt.Errorf("response of %d bytes: want at most %d", size, maxResponse)
	}
	for i, text := range response[:len(response)-1] {
		crt, err := parseOne(text)
		if err != nil {
			return fmt.Errorf("chain element %d: %w", i, err)
		}
		c.Chain = append(c.Chain, crt)
	}
	c.Roots = parseRoots(response[len(response)-1])
	if len(c.Roots) == 0 {
		return errors.New("no usable root in the last element")
	}
	if len(c.Roots) > maxRoots {
		return fmt.Errorf("%d roots: want at most %d", len(c.Roots), maxRoots)
	}
	c.pool = x509.NewCertPool()
	for _, r := range c.Roots {
		c.pool.AddCert(r)
	}
	return nil
}

// check holds the answer against what was asked for.
func (c *Certificate) check(key crypto.Signer, now time.Time) error {
	leaf := c.Leaf()
	pub, ok := leaf.PublicKey.(*ecdsa.PublicKey)
	if !ok || !pub.Equal(key.Public()) {
		return errors.New("made for another key")
	}
	// The first URI name must be the identity that was asked for (a CA that answers for another one is not to be trusted).
	if len(leaf.URIs) == 0 {
		return errors.New("no spiffe id in it")
	}
	if got, err := spiffe.Parse(leaf.URIs[0].String()); err != nil {
		return err
	} else if got != c.ID {
		return fmt.Errorf("issued to %s", got)
	}
	inter := x509.NewCertPool()
	for _, crt := range c.Chain[1:] {
		inter.AddCert(crt)
	}
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots: c.pool, Intermediates: inter, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return fmt.Errorf("against the roots that came with it: %w", err)
	}
	return nil
}

// parseOne reads exactly one certificate.
func parseOne(text string) (*x509.Certificate, error) {
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("not a PEM certificate")
	}
	if len(bytes.TrimSpace(rest)) != 0 {
		return nil, errors.New("more than one certificate")
	}
	return x509.ParseCertificate(block.Bytes)
}

// parseRoots reads a bundle and skips what it cannot read, as Istio's ztunnel does: one root that this version does not
// understand must not take the others with it, and a missing root only makes us refuse more.
func parseRoots(text string) (roots []*x509.Certificate) {
	for rest := []byte(text); len(roots) <= maxRoots; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return roots
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		if crt, err := x509.ParseCertificate(block.Bytes); err == nil {
			roots = append(roots, crt)
		}
	}
	return roots
}
