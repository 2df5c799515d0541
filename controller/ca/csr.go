package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"time"

	"github.com/ambit-mesh/ambit/controller/api/spiffe"
)

const (
	// maxCSR bounds a request in bytes; one with an RSA 4096 key has 1,700.
	maxCSR = 16 << 10
	// minRSA and maxRSA bound RSA keys in bits: smaller ones are weak, larger ones make everybody's handshakes slow.
	minRSA, maxRSA = 2048, 4096
)

// checkCSR reads a PEM certificate request. The caller must have proved possession of the key, and may
// state no name but the one that was granted.
func checkCSR(text string, granted spiffe.ID) (*x509.CertificateRequest, *refusal) {
	if len(text) > maxCSR {
		return nil, refuse(ReasonBadCSR, "certificate request of %d bytes: want at most %d", len(text), maxCSR)
	}
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE REQUEST" && block.Type != "NEW CERTIFICATE REQUEST" {
		return nil, refuse(ReasonBadCSR, "no PEM certificate request")
	}
	if more, _ := pem.Decode(rest); more != nil {
		return nil, refuse(ReasonBadCSR, "more than one certificate request")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, refuse(ReasonBadCSR, "certificate request: %v", err)
	}
	if r := checkKey(csr.PublicKey); r != nil { // before the signature, which costs more the larger the key
		return nil, r
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, refuse(ReasonBadCSR, "certificate request's signature: %v", err)
	}
	if len(csr.DNSNames)+len(csr.IPAddresses)+len(csr.EmailAddresses) > 0 {
		return nil, refuse(ReasonBadCSR, "certificate request names hosts, addresses or mail; want a SPIFFE id only")
	}
	if len(csr.URIs) != 1 || csr.URIs[0].String() != granted.String() {
		return nil, refuse(ReasonBadCSR, "certificate request names %d URIs; want exactly %s", len(csr.URIs), granted)
	}
	return csr, nil
}

func checkKey(key crypto.PublicKey) *refusal {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		if bits := k.Curve.Params().BitSize; bits < 256 {
			return refuse(ReasonBadCSR, "ECDSA key of %d bits: want at least 256", bits)
		}
	case ed25519.PublicKey:
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits < minRSA || bits > maxRSA {
			return refuse(ReasonBadCSR, "RSA key of %d bits: want %d to %d", bits, minRSA, maxRSA)
		}
	default:
		return refuse(ReasonBadCSR, "key of type %T is not supported", key)
	}
	return nil
}

// lifetime is how long a certificate is to be valid: as asked for, within limits. seconds is the request's.
func lifetime(seconds int64, byDefault, most time.Duration) (time.Duration, *refusal) {
	switch {
	case seconds == 0:
		return byDefault, nil
	case seconds < 0:
		return 0, refuse(ReasonBadTTL, "validity of %d seconds", seconds)
	case seconds > int64(most/time.Second):
		return 0, refuse(ReasonBadTTL, "validity of %d seconds: want at most %d", seconds, int64(most/time.Second))
	default:
		return time.Duration(seconds) * time.Second, nil
	}
}
