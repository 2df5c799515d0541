package ca

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/ambit-mesh/ambit/controller/api/spiffe"
)

// Request is a certificate to be made. Who may have it was decided before.
type Request struct {
	// CSR is the request (PKCS #10, DER) in which the key's owner proves to have it. It states the names and no others. Signers
	// that make certificates of requests (cert-manager, Vault) pass it on; its signature has been checked.
	CSR      []byte
	Key      crypto.PublicKey // the request's
	ID       spiffe.ID        // of a workload; zero for a server certificate
	DNSNames []string         // of a server certificate
	Lifetime time.Duration    // positive; a signer may give less, never more
}

// Chain is a certificate as PEM blocks: the leaf, the intermediates from its issuer upwards, and last all roots in one.
type Chain struct {
	Leaf          []byte
	Intermediates [][]byte
	Roots         []byte
}

// ErrRetry is in the chain of a signer's error that may be over soon: an external signer that does not answer, say. Callers
// are told to try again; without it, that the same request would fail again.
var ErrRetry = errors.New("signer is not available now")

// Signer makes certificates. It is safe for concurrent use. SelfSigned and PluggedIn sign here; an external one (cert-manager,
// SPIRE, Vault) implements it too, and must pass package signertest. What it gives is checked before it is passed on.
type Signer interface {
	// Sign makes a certificate for the key that states the request's names and no others, for client and server
	// authentication, not beyond the lifetime, with a chain that leads to one of its roots.
	Sign(ctx context.Context, r Request) (Chain, error)
	// Roots is the bundle that clients are to trust, PEM: what Chain.Roots would be now.
	Roots() []byte
	// Changed is closed at the next change of the roots or of the certificate that signs; then ask again, for the next. Take
	// it before reading Roots, so that no change is missed. Nil: nothing ever changes.
	Changed() <-chan struct{}
}

// Check reports what is wrong with a signer's answer to a request.
func (c Chain) Check(r Request, now time.Time) error {
	block, rest := pem.Decode(c.Leaf)
	if block == nil || block.Type != "CERTIFICATE" || len(bytes.TrimSpace(rest)) > 0 {
		return errors.New("leaf: not one PEM certificate")
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return fmt.Errorf("leaf: %w", err)
	}
	if pub, ok := leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !pub.Equal(r.Key) {
		return errors.New("leaf is for another key")
	}
	if leaf.IsCA {
		return errors.New("leaf is an authority")
	}
	if err := checkNames(leaf, r); err != nil {
		return err
	}
	if limit := now.Add(r.Lifetime + time.Minute); leaf.NotAfter.After(limit) {
		return fmt.Errorf("leaf is valid until %s: want at most %s", leaf.NotAfter.Format(time.RFC3339), limit.Format(time.RFC3339))
	}
	roots, err := parseCerts(c.Roots)
	if err != nil {
		return fmt.Errorf("roots: %w", err)
	}
	opts := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	for _, root := range roots {
		opts.Roots.AddCert(root)
	}
	for _, text := range c.Intermediates {
		certs, err := parseCerts(text)
		if err != nil || len(certs) != 1 {
			return errors.New("intermediate: not one PEM certificate")
		}
		opts.Intermediates.AddCert(certs[0])
	}
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		opts.KeyUsages = []x509.ExtKeyUsage{usage}
		if _, err := leaf.Verify(opts); err != nil {
			return fmt.Errorf("leaf against the roots that came with it: %w", err)
		}
	}
	return nil
}

func checkNames(leaf *x509.Certificate, r Request) error {
	var uris []string
	for _, u := range leaf.URIs {
		uris = append(uris, u.String())
	}
	if want := r.ID.String(); want == "" && len(uris) > 0 || want != "" && (len(uris) != 1 || uris[0] != want) {
		return fmt.Errorf("leaf names %q: want %q", uris, want)
	}
	if len(leaf.DNSNames) != len(r.DNSNames) || len(leaf.IPAddresses)+len(leaf.EmailAddresses) > 0 {
		return errors.New("leaf has names that were not asked for, or lacks some")
	}
	for i, name := range leaf.DNSNames {
		if name != r.DNSNames[i] {
			return fmt.Errorf("leaf names host %q: want %q", name, r.DNSNames[i])
		}
	}
	return nil
}
