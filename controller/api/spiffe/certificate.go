package spiffe

import (
	"crypto/x509"
	"fmt"
)

// FromCertificate is the identity a certificate states: its one URI name. A certificate with none gives ErrNone; one with
// several, or with a name of another shape, is an error, never a choice (X509-SVID section 2).
func FromCertificate(cert *x509.Certificate) (ID, error) {
	if cert == nil {
		return ID{}, ErrNone
	}
	switch len(cert.URIs) {
	case 0:
		return ID{}, ErrNone
	case 1:
		return Parse(cert.URIs[0].String())
	default:
		return ID{}, fmt.Errorf("certificate with %d uri names: want one", len(cert.URIs))
	}
}
