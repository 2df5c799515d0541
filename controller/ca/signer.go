package ca

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"time"

	"github.com/ambit-mesh/ambit/controller/api/spiffe"
)

// backdate is how far before now a certificate is valid already, for clocks that are behind (Istio's figure).
const backdate = 2 * time.Minute

// Request is a certificate to be made.
type Request struct {
	Key      crypto.PublicKey
	ID       spiffe.ID // of a workload; zero for a server certificate
	DNSNames []string  // of a server certificate
	Lifetime time.Duration
}

// Chain is a certificate as PEM blocks: the leaf, the intermediates, and last all roots in one.
type Chain struct {
	Leaf          []byte
	Intermediates [][]byte
	Roots         []byte
}

// Signer makes certificates. It is safe for concurrent use. Authority is the one on disk; an external one (cert-manager, Vault)
// would implement it too.
type Signer interface {
	Sign(ctx context.Context, r Request) (Chain, error)
	// Roots is the bundle that clients are to trust, PEM.
	Roots() []byte
}

// Authority signs with a key of its own. Immutable.
type Authority struct {
	cert          *x509.Certificate
	key           crypto.Signer
	intermediates [][]byte // from the signing certificate upwards, without roots
	roots         []byte
	now           func() time.Time
}

// Roots implements Signer.
func (a *Authority) Roots() []byte { return a.roots }

// Expiry is when the signing certificate ends.
func (a *Authority) Expiry() time.Time { return a.cert.NotAfter }

// Sign implements Signer.
func (a *Authority) Sign(_ context.Context, r Request) (Chain, error) {
	now := a.now()
	if now.After(a.cert.NotAfter) {
		return Chain{}, fmt.Errorf("signing certificate expired at %s", a.cert.NotAfter.Format(time.RFC3339))
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
	if template.NotAfter.After(a.cert.NotAfter) {
		template.NotAfter = a.cert.NotAfter
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

func pemCert(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
