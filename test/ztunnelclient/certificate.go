package ztunnelclient

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

const createMethod = "/istio.v1.auth.IstioCertificateService/CreateCertificate"

// Certificate is what a ztunnel makes of the answer to a request.
type Certificate struct {
	Key   *ecdsa.PrivateKey
	Leaf  *x509.Certificate
	Chain []*x509.Certificate // intermediates
	Roots *x509.CertPool
}

// Certify asks for a certificate for one of the node's workloads, over a connection of its own: the same transport, token and
// headers as for configuration.
func (c *Client) Certify(ctx context.Context, identity string, ttl time.Duration) (*Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	csr, err := signingRequest(key, identity)
	if err != nil {
		return nil, err
	}
	// IstioCertificateRequest: csr=1 validity_duration=3 metadata=4.
	req := putBytes(nil, 1, csr)
	req = protowire.AppendVarint(protowire.AppendTag(req, 3, protowire.VarintType), uint64(ttl/time.Second))
	req = putBytes(req, 4, textStruct([2]string{"ImpersonatedIdentity", identity}))
	conn, err := c.dial()
	if err != nil {
		return nil, fmt.Errorf("authority: %w", err)
	}
	defer conn.Close()
	var res []byte
	if err := conn.Invoke(c.headers(ctx), createMethod, req, &res); err != nil {
		return nil, err
	}
	return readChain(res, key, identity)
}

// signingRequest is P-256 with SHA-256, an empty subject and one critical extension, the name.
func signingRequest(key *ecdsa.PrivateKey, identity string) ([]byte, error) {
	san, err := asn1.Marshal([]asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte(identity)}})
	if err != nil {
		return nil, fmt.Errorf("name: %w", err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		SignatureAlgorithm: x509.ECDSAWithSHA256,
		ExtraExtensions:    []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Critical: true, Value: san}},
	}, key)
	if err != nil {
		return nil, fmt.Errorf("signing request: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), nil
}

// readChain reads an IstioCertificateResponse, cert_chain=1: the leaf first, the roots last, one intermediate in each between.
func readChain(data []byte, key *ecdsa.PrivateKey, identity string) (*Certificate, error) {
	var chain [][]byte
	if err := each(data, func(f field) error {
		if f.num == 1 {
			chain = append(chain, f.bytes)
		}
		return nil
	}); err != nil {
		return nil, fmt.Errorf("answer: %w", err)
	}
	if len(chain) < 2 {
		return nil, fmt.Errorf("a chain of %d: no leaf, or no root", len(chain))
	}
	out := &Certificate{Key: key, Roots: x509.NewCertPool()}
	for i, text := range chain[:len(chain)-1] {
		block, rest := pem.Decode(text)
		if block == nil || len(rest) > 0 {
			return nil, fmt.Errorf("element %d is not one certificate", i)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("element %d: %w", i, err)
		}
		if i == 0 {
			out.Leaf = cert
		} else {
			out.Chain = append(out.Chain, cert)
		}
	}
	if !out.Roots.AppendCertsFromPEM(chain[len(chain)-1]) {
		return nil, errors.New("no root in the last element")
	}
	if len(out.Leaf.URIs) == 0 || out.Leaf.URIs[0].String() != identity {
		return nil, fmt.Errorf("certificate for %v, not %s", out.Leaf.URIs, identity)
	}
	if !key.PublicKey.Equal(out.Leaf.PublicKey) {
		return nil, errors.New("certificate for another key")
	}
	return out, nil
}
