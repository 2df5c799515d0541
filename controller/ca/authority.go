package ca

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"time"

	"github.com/ambit-mesh/ambit/controller/api/spiffe"
)

// backdate is how far before now a certificate is valid already, for clocks that are behind (Istio's figure).
const backdate = 2 * time.Minute

// Authority signs with a key of its own. It is immutable: SelfSigned and PluggedIn replace the one they have.
type Authority struct {
	cert          *x509.Certificate
	key           crypto.Signer
	chain         []*x509.Certificate // from the signing certificate to its root
	intermediates [][]byte            // from the signing certificate upwards, without roots
	trusted       []*x509.Certificate
	roots         []byte // trusted, as given
	now           func() time.Time
}

// NewAuthority makes an authority of PEM texts. chain holds the intermediates from the signing certificate upwards, with or
// without the signing certificate and the roots; it may be empty. roots is the bundle that clients are to trust.
func NewAuthority(certPEM, keyPEM, chain, roots []byte, now func() time.Time) (*Authority, error) {
	certs, err := parseCerts(certPEM)
	if err != nil {
		return nil, fmt.Errorf("signing certificate: %w", err)
	}
	cert := certs[0]
	key, err := parseKey(keyPEM)
	if err != nil {
		return nil, err
	}
	if pub, ok := cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !pub.Equal(key.Public()) {
		return nil, errors.New("signing key is not that of the signing certificate")
	}
	if no := checkKey(key.Public()); no != nil {
		return nil, fmt.Errorf("signing key: %w", no)
	}
	if !cert.IsCA || cert.KeyUsage != 0 && cert.KeyUsage&x509.KeyUsageCertSign == 0 {
		return nil, errors.New("signing certificate is not that of an authority")
	}
	a := &Authority{cert: cert, key: key, roots: roots, now: now}
	if a.trusted, err = parseCerts(roots); err != nil {
		return nil, fmt.Errorf("roots: %w", err)
	}
	between := certs
	if len(chain) > 0 {
		more, err := parseCerts(chain)
		if err != nil {
			return nil, fmt.Errorf("chain: %w", err)
		}
		between = append(between, more...)
	}
	if a.chain, err = longest(cert, a.trusted, between, now()); err != nil {
		return nil, fmt.Errorf("signing certificate: %w", err)
	}
	for _, c := range a.chain[:len(a.chain)-1] {
		a.intermediates = append(a.intermediates, pemCert(c.Raw))
	}
	return a, nil
}

// longest is the chain from cert to one of the roots that stays valid longest.
func longest(cert *x509.Certificate, roots, between []*x509.Certificate, now time.Time) ([]*x509.Certificate, error) {
	opts := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
	for _, c := range roots {
		opts.Roots.AddCert(c)
	}
	for _, c := range between {
		opts.Intermediates.AddCert(c)
	}
	chains, err := cert.Verify(opts)
	if err != nil {
		return nil, err
	}
	best := chains[0]
	for _, c := range chains[1:] {
		if earliest(c).After(earliest(best)) {
			best = c
		}
	}
	return best, nil
}

// earliest is when the first of the certificates ends.
func earliest(certs []*x509.Certificate) time.Time {
	end := certs[0].NotAfter
	for _, c := range certs[1:] {
		if c.NotAfter.Before(end) {
			end = c.NotAfter
		}
	}
	return end
}

// Roots is the bundle that clients are to trust, PEM.
func (a *Authority) Roots() []byte { return a.roots }

// Expiry is when the root ends and when the chain does, root included: from then on nothing can be signed.
func (a *Authority) Expiry() (root, chain time.Time) {
	return a.chain[len(a.chain)-1].NotAfter, earliest(a.chain)
}

// due reports that less than the given part of the chain's life is left, and how much.
func (a *Authority) due(now time.Time, part float64) (time.Duration, bool) {
	_, end := a.Expiry()
	left := end.Sub(now)
	return left, float64(left) < part*float64(end.Sub(a.cert.NotBefore))
}

// Sign makes a certificate that ends when asked for, or when the first certificate of the chain does.
func (a *Authority) Sign(_ context.Context, r Request) (Chain, error) {
	now := a.now()
	_, end := a.Expiry()
	if !now.Before(end) {
		return Chain{}, fmt.Errorf("signing certificate or one above it expired at %s", end.Format(time.RFC3339))
	}
	if r.Lifetime <= 0 {
		return Chain{}, fmt.Errorf("lifetime of %s", r.Lifetime)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return Chain{}, fmt.Errorf("serial number: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(r.Lifetime),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
		DNSNames:              r.DNSNames,
	}
	if template.NotAfter.After(end) {
		template.NotAfter = end
	}
	if r.ID != (spiffe.ID{}) {
		if err := r.ID.Validate(); err != nil {
			return Chain{}, err
		}
		uri, err := url.Parse(r.ID.String())
		if err != nil {
			return Chain{}, fmt.Errorf("identity: %w", err)
		}
		template.URIs = []*url.URL{uri} // with an empty subject, crypto/x509 marks the names critical
	}
	if len(template.URIs)+len(template.DNSNames) == 0 {
		return Chain{}, errors.New("certificate without a name")
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, r.Key, a.key)
	if err != nil {
		return Chain{}, fmt.Errorf("sign certificate: %w", err)
	}
	return Chain{Leaf: pemCert(der), Intermediates: a.intermediates, Roots: a.roots}, nil
}
