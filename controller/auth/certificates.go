package auth

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ambit-mesh/ambit/controller/api/spiffe"
)

// maxPeerChain bounds the certificates that a client may send.
const maxPeerChain = 8

// Certificates checks client certificates that the mesh's own authority made. It is asked at every call, not only in the
// handshake: a certificate may end, and a root cease to be trusted, while a connection lives. Safe for concurrent use.
type Certificates struct {
	trustDomain string
	roots       func() []byte
	now         func() time.Time

	mu   sync.Mutex
	text []byte // what pool was made of
	pool *x509.CertPool
}

// NewCertificates makes a check against the roots as they are at each call (PEM), for one trust domain.
func NewCertificates(trustDomain string, roots func() []byte, now func() time.Time) *Certificates {
	return &Certificates{trustDomain: trustDomain, roots: roots, now: now}
}

// Verify names the service account that a client's certificates prove. The caller is known to hold the first one's key: the
// TLS handshake showed that.
func (c *Certificates) Verify(sent []*x509.Certificate) (Caller, error) {
	if len(sent) == 0 {
		return Caller{}, errors.New("none")
	}
	if len(sent) > maxPeerChain {
		return Caller{}, fmt.Errorf("chain of %d: want at most %d", len(sent), maxPeerChain)
	}
	opts := x509.VerifyOptions{
		Roots: c.trusted(), Intermediates: x509.NewCertPool(), CurrentTime: c.now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	for _, cert := range sent[1:] {
		opts.Intermediates.AddCert(cert)
	}
	if _, err := sent[0].Verify(opts); err != nil {
		return Caller{}, err
	}
	id, err := spiffe.FromCertificate(sent[0])
	if err != nil {
		return Caller{}, err
	}
	if id.TrustDomain != c.trustDomain {
		return Caller{}, fmt.Errorf("trust domain of %s: this mesh is %s", id, c.trustDomain)
	}
	return Caller{Namespace: id.Namespace, ServiceAccount: id.ServiceAccount}, nil
}

// trusted is the pool of the roots there are now.
func (c *Certificates) trusted() *x509.CertPool {
	text := c.roots()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pool == nil || !bytes.Equal(text, c.text) {
		c.pool, c.text = x509.NewCertPool(), text
		c.pool.AppendCertsFromPEM(text)
	}
	return c.pool
}
