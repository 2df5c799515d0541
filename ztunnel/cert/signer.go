package cert

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"net/url"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/ambit-mesh/ambit/controller/api/ca"
	"github.com/ambit-mesh/ambit/controller/api/spiffe"
)

// Signer is the CA. CreateCertificate asks for a certificate of the PEM request csr, valid for ttl, in the name of id
// (which a pod on this node has; the node's own identity must be allowed to ask for it). The answer is the leaf, each
// intermediate on its own, and last the root bundle, as PEM. It honours ctx and may be called concurrently.
type Signer interface {
	CreateCertificate(ctx context.Context, csr []byte, ttl time.Duration, id spiffe.ID) ([]string, error)
}

// NewGRPC is the Signer that speaks Istio's IstioCertificateService over conn. Credentials are conn's.
func NewGRPC(conn grpc.ClientConnInterface) Signer {
	return grpcSigner{ca.NewIstioCertificateServiceClient(conn)}
}

type grpcSigner struct {
	client ca.IstioCertificateServiceClient
}

func (g grpcSigner) CreateCertificate(ctx context.Context, csr []byte, ttl time.Duration, id spiffe.ID) ([]string, error) {
	resp, err := g.client.CreateCertificate(ctx, &ca.IstioCertificateRequest{
		Csr:              string(csr),
		ValidityDuration: int64(ttl / time.Second),
		Metadata: &structpb.Struct{Fields: map[string]*structpb.Value{
			ca.ImpersonatedIdentity: structpb.NewStringValue(id.String()),
		}},
	}, grpc.MaxCallRecvMsgSize(maxResponse))
	if err != nil {
		return nil, fmt.Errorf("create certificate: %w", err)
	}
	return resp.GetCertChain(), nil
}

// oidSubjectAltName is RFC 5280 section 4.2.1.6.
var oidSubjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}

// tagURI is GeneralName's uniformResourceIdentifier, context specific 6 (RFC 5280 section 4.2.1.6).
const tagURI = 6

// NewRequest makes a fresh P-256 key and a PEM certificate request for id: empty subject, one critical SPIFFE URI name.
func NewRequest(id spiffe.ID) (crypto.Signer, []byte, error) {
	if err := id.Validate(); err != nil {
		return nil, nil, fmt.Errorf("certificate request: %w", err)
	}
	if _, err := url.Parse(id.String()); err != nil {
		return nil, nil, fmt.Errorf("certificate request: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("private key: %w", err)
	}
	// crypto/x509 would mark the extension as not critical, so it is made here.
	names, err := asn1.Marshal([]asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: tagURI, Bytes: []byte(id.String())}})
	if err != nil {
		return nil, nil, fmt.Errorf("certificate request: %w", err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		SignatureAlgorithm: x509.ECDSAWithSHA256,
		ExtraExtensions:    []pkix.Extension{{Id: oidSubjectAltName, Critical: true, Value: names}},
	}, key)
	if err != nil {
		return nil, nil, fmt.Errorf("certificate request: %w", err)
	}
	return key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), nil
}
