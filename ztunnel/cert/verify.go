package cert

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"github.com/ambit-mesh/ambit/controller/api/spiffe"
)

const (
	// maxLeaf bounds a peer's leaf certificate in bytes. crypto/tls bounds the whole message at 256 KiB.
	maxLeaf = 32 << 10
	// maxNames bounds the URI names of a peer's leaf.
	maxNames = 64
)

var (
	// ErrUnexpectedIdentity says that a server proved an identity, but none of those expected of it.
	ErrUnexpectedIdentity = errors.New("unexpected peer identity")
	// ErrTrustDomain says that a client proved an identity of another trust domain.
	ErrTrustDomain = errors.New("peer of another trust domain")
)

// PeerIdentity is who the peer of a finished handshake is: the first URI name of its certificate that is a SPIFFE id of
// our shape. The zero ID and spiffe.ErrNone where there is none. It verifies nothing: the handshake did.
func PeerIdentity(cs tls.ConnectionState) (spiffe.ID, error) {
	if len(cs.PeerCertificates) == 0 {
		return spiffe.ID{}, spiffe.ErrNone
	}
	ids := identities(cs.PeerCertificates[0])
	if len(ids) == 0 {
		return spiffe.ID{}, spiffe.ErrNone
	}
	return ids[0], nil
}

// verifyClient is the server's look at a client: chain, validity, clientAuth, trust domain. The trust domain must be that
// of the identity which policies will see. (Istio's accepts when any name of the certificate has it; that differs only for
// a certificate that names several trust domains, which no CA of the mesh issues.)
func (c *Certificate) verifyClient(cs tls.ConnectionState) error {
	if err := c.verifyChain(cs, x509.ExtKeyUsageClientAuth); err != nil {
		return fmt.Errorf("client certificate: %w", err)
	}
	id, err := PeerIdentity(cs)
	if err != nil {
		return fmt.Errorf("client certificate: %w", err)
	}
	if id.TrustDomain != c.ID.TrustDomain {
		return fmt.Errorf("client certificate of %s: %w: want %s", id, ErrTrustDomain, c.ID.TrustDomain)
	}
	return nil
}

// verifyServer is the client's look at a server: chain, validity, serverAuth, and one of the expected identities.
func (c *Certificate) verifyServer(cs tls.ConnectionState, expected []spiffe.ID) error {
	if err := c.verifyChain(cs, x509.ExtKeyUsageServerAuth); err != nil {
		return fmt.Errorf("server certificate: %w", err)
	}
	ids := identities(cs.PeerCertificates[0])
	for _, id := range ids {
		if slices.Contains(expected, id) {
			return nil
		}
	}
	return fmt.Errorf("server certificate: %w: %s, want %s", ErrUnexpectedIdentity, list(ids), list(expected))
}

// verifyChain holds the peer's certificates against our roots, now.
func (c *Certificate) verifyChain(cs tls.ConnectionState, usage x509.ExtKeyUsage) error {
	chain := cs.PeerCertificates
	switch {
	case len(chain) == 0:
		return errors.New("none presented")
	case len(chain) > maxChain:
		return fmt.Errorf("chain of %d: want at most %d", len(chain), maxChain)
	}
	leaf := chain[0]
	switch {
	case len(leaf.Raw) > maxLeaf:
		return fmt.Errorf("%d bytes: want at most %d", len(leaf.Raw), maxLeaf)
	case len(leaf.URIs) > maxNames:
		return fmt.Errorf("%d uri names: want at most %d", len(leaf.URIs), maxNames)
	case leaf.IsCA:
		// Whoever holds a CA's key could pose as anyone anyway; a CA certificate in a leaf's place is a mistake or an attack.
		return errors.New("a CA certificate where a leaf belongs")
	}
	opts := x509.VerifyOptions{Roots: c.pool, KeyUsages: []x509.ExtKeyUsage{usage}}
	if len(chain) > 1 {
		opts.Intermediates = x509.NewCertPool()
		for _, crt := range chain[1:] {
			opts.Intermediates.AddCert(crt)
		}
	}
	if _, err := leaf.Verify(opts); err != nil {
		return fmt.Errorf("of %s (unverified): %w", list(identities(leaf)), err)
	}
	return nil
}

// identities are the SPIFFE ids among a certificate's URI names, in order; other names are skipped.
func identities(leaf *x509.Certificate) (ids []spiffe.ID) {
	for _, u := range leaf.URIs[:min(len(leaf.URIs), maxNames)] {
		if id, err := spiffe.Parse(u.String()); err == nil {
			ids = append(ids, id)
		}
	}
	return ids
}

// list shows identities in an error, a few of them.
func list(ids []spiffe.ID) string {
	const most = 4
	switch n := len(ids); {
	case n == 0:
		return "nobody"
	case n == 1:
		return ids[0].String()
	case n > most:
		return fmt.Sprintf("%v and %d more", ids[:most], n-most)
	default:
		return fmt.Sprint(ids)
	}
}
