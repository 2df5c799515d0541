package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/ambit-mesh/ambit/controller/api/spiffe"
)

func request(t testing.TB, key crypto.Signer, edit func(*x509.CertificateRequest)) string {
	uri, err := url.Parse(web.String())
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.CertificateRequest{URIs: []*url.URL{uri}}
	if edit != nil {
		edit(template)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

func ec(t testing.TB, c elliptic.Curve) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestCheckCSR(t *testing.T) {
	key := ec(t, elliptic.P256())
	good := request(t, key, nil)
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("GODEBUG", "rsa1024min=0") // or no such key can be made
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(good))
	broken := append([]byte(nil), block.Bytes...)
	broken[len(broken)-1] ^= 1
	for _, tc := range []struct{ name, csr, want string }{
		{"p256", good, ""},
		{"p384", request(t, ec(t, elliptic.P384()), nil), ""},
		{"ed25519", request(t, edKey, nil), ""},
		{"rsa", request(t, rsaKey, nil), ""},
		{"rsa of 1024 bits", request(t, small, nil), "1024 bits"},
		{"p224", request(t, ec(t, elliptic.P224()), nil), "224 bits"},
		{"empty", "", "no PEM"},
		{"not PEM", "hello", "no PEM"},
		{"a certificate", strings.ReplaceAll(good, "CERTIFICATE REQUEST", "CERTIFICATE"), "no PEM"},
		{"two", good + good, "more than one"},
		{"too large", good + strings.Repeat("x", maxCSR), "at most"},
		{"signature", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: broken})), "signature"},
		{"truncated", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: block.Bytes[:50]})), "certificate request"},
		{"no name", request(t, key, func(r *x509.CertificateRequest) { r.URIs = nil }), "want exactly"},
		{"two names", request(t, key, func(r *x509.CertificateRequest) { r.URIs = append(r.URIs, r.URIs[0]) }), "want exactly"},
		{"another name", request(t, key, func(r *x509.CertificateRequest) { r.URIs = []*url.URL{{Scheme: "spiffe", Host: "x"}} }), "want exactly"},
		{"a host", request(t, key, func(r *x509.CertificateRequest) { r.DNSNames = []string{"istiod"} }), "SPIFFE id only"},
		{"an address", request(t, key, func(r *x509.CertificateRequest) { r.IPAddresses = []net.IP{{10, 0, 0, 1}} }), "SPIFFE id only"},
	} {
		_, no := checkCSR(tc.csr, web)
		if (no == nil) != (tc.want == "") || no != nil && !strings.Contains(no.text, tc.want) {
			t.Errorf("%s: %v, want %q", tc.name, no, tc.want)
		}
	}
}

func TestLifetime(t *testing.T) {
	for seconds, want := range map[int64]time.Duration{0: time.Hour, 60: time.Minute, 7200: 2 * time.Hour, 7201: 0, -1: 0, 1 << 62: 0} {
		if got, no := lifetime(seconds, time.Hour, 2*time.Hour); got != want || (no == nil) != (want > 0) {
			t.Errorf("%d: %v %v", seconds, got, no)
		}
	}
}

// FuzzCSR: nothing panics, and nothing is accepted that does not state the granted name alone, with a strong key that signed it.
func FuzzCSR(f *testing.F) {
	good := request(f, ec(f, elliptic.P256()), nil)
	block, _ := pem.Decode([]byte(good))
	f.Add(block.Bytes)
	f.Add(block.Bytes[:40])
	other, _ := pem.Decode([]byte(request(f, ec(f, elliptic.P384()), func(r *x509.CertificateRequest) { r.DNSNames = []string{"istiod"} })))
	f.Add(other.Bytes)
	f.Fuzz(func(t *testing.T, der []byte) {
		text := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
		if csr, no := checkCSR(text, web); no == nil {
			if csr.CheckSignature() != nil || len(csr.URIs) != 1 || csr.URIs[0].String() != web.String() || len(csr.DNSNames) > 0 || checkKey(csr.PublicKey) != nil {
				t.Fatalf("accepted %+v", csr)
			}
		}
		if _, no := checkCSR(text, spiffe.ID{TrustDomain: "other", Namespace: "a", ServiceAccount: "b"}); no == nil {
			t.Fatal("accepted for another name")
		}
		_, _ = checkCSR(string(der), web)
	})
}
