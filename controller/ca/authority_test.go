package ca

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"maps"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// workloadRequest is a request as the server would make it.
func workloadRequest(t testing.TB, life time.Duration) (Request, *ecdsa.PrivateKey) {
	t.Helper()
	key := ec(t, elliptic.P256())
	csr, no := checkCSR(request(t, key, nil), web)
	if no != nil {
		t.Fatal(no)
	}
	return Request{CSR: csr.Raw, Key: csr.PublicKey, ID: web, Lifetime: life}, key
}

// verify signs and checks what a node proxy checks.
func verify(t *testing.T, s Signer, intermediates int) *x509.Certificate {
	t.Helper()
	r, _ := workloadRequest(t, time.Hour)
	chain, err := s.Sign(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if err := chain.Check(r, epoch); err != nil {
		t.Error(err)
	}
	if len(chain.Intermediates) != intermediates {
		t.Errorf("chain: %d intermediates, want %d", len(chain.Intermediates), intermediates)
	}
	block, _ := pem.Decode(chain.Leaf)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if !cert.NotAfter.Equal(epoch.Add(time.Hour)) || !cert.NotBefore.Equal(epoch.Add(-backdate)) {
		t.Errorf("valid %v to %v", cert.NotBefore, cert.NotAfter)
	}
	critical := false
	for _, e := range cert.Extensions {
		critical = critical || e.Id.String() == "2.5.29.17" && e.Critical
	}
	if !critical || cert.Subject.String() != "" {
		t.Error("without a subject the name must be critical (RFC 5280, 4.2.1.6)")
	}
	return cert
}

// issueCA makes an authority's certificate, by itself or by a parent.
func issueCA(t testing.TB, cn string, pub crypto.PublicKey, parent *x509.Certificate, signer crypto.Signer, life time.Duration) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: cn}, NotBefore: epoch.Add(-time.Hour), NotAfter: epoch.Add(life),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func ecPEM(t testing.TB, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
}

// pluggedFiles are those of a root and an intermediate that signs.
func pluggedFiles(t testing.TB) map[string][]byte {
	t.Helper()
	rootKey, key := ec(t, elliptic.P256()), ec(t, elliptic.P256())
	root := issueCA(t, "root", rootKey.Public(), nil, rootKey, 48*time.Hour)
	inter := issueCA(t, "intermediate", key.Public(), root, rootKey, 24*time.Hour)
	return map[string][]byte{KeyCert: pemCert(inter.Raw), KeyKey: ecPEM(t, key), KeyRoot: pemCert(root.Raw), KeyChain: joinCerts(inter, root)}
}

// with is files with one of them replaced.
func with(files map[string][]byte, name string, data []byte) map[string][]byte {
	out := maps.Clone(files)
	out[name] = data
	return out
}

func writeFiles(t testing.TB, dir string, files map[string][]byte) {
	t.Helper()
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// istioData is what istiod keeps in istio-ca-secret: an RSA root, its key in PKCS #1, and empty files.
func istioData(t testing.TB, life time.Duration) map[string][]byte {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	root := issueCA(t, "", key.Public(), nil, key, life)
	return map[string][]byte{
		KeyCert: pemCert(root.Raw), KeyKey: pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}),
		KeyChain: {}, KeyRoot: {}, KeyOther: {},
	}
}

func TestAuthorityRefused(t *testing.T) {
	files, other := pluggedFiles(t), pluggedFiles(t)
	weakKey, leafKey := ec(t, elliptic.P224()), ec(t, elliptic.P256())
	weak := issueCA(t, "weak", weakKey.Public(), nil, weakKey, time.Hour)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: epoch.Add(-time.Hour), NotAfter: epoch.Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, leafKey.Public(), leafKey)
	if err != nil {
		t.Fatal(err)
	}
	var many []byte
	for range maxCerts + 1 {
		many = append(many, files[KeyRoot]...)
	}
	for name, f := range map[string]map[string][]byte{
		"another key":      with(files, KeyKey, other[KeyKey]),
		"another root":     with(files, KeyRoot, other[KeyRoot]),
		"no root":          with(files, KeyRoot, nil),
		"no key":           with(files, KeyKey, []byte("x")),
		"broken chain":     with(files, KeyChain, []byte("x")),
		"endless roots":    with(files, KeyRoot, many),
		"weak key":         {KeyCert: pemCert(weak.Raw), KeyKey: ecPEM(t, weakKey), KeyRoot: pemCert(weak.Raw)},
		"not an authority": {KeyCert: pemCert(der), KeyKey: ecPEM(t, leafKey), KeyRoot: pemCert(der)},
	} {
		if _, err := NewAuthority(f[KeyCert], f[KeyKey], f[KeyChain], f[KeyRoot], clock); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := NewAuthority(files[KeyCert], files[KeyKey], nil, files[KeyRoot], func() time.Time { return epoch.Add(48 * time.Hour) }); err == nil {
		t.Error("an expired authority was accepted")
	}
}

// TestLifetimeClamped: nothing outlives the chain that signed it, and nothing is signed after it.
func TestLifetimeClamped(t *testing.T) {
	now := epoch
	f := pluggedFiles(t)
	a, err := NewAuthority(f[KeyCert], f[KeyKey], f[KeyChain], f[KeyRoot], func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	if root, chain := a.Expiry(); !root.Equal(epoch.Add(48*time.Hour)) || !chain.Equal(epoch.Add(24*time.Hour)) {
		t.Errorf("expiry %v %v", root, chain)
	}
	now = epoch.Add(23*time.Hour + 30*time.Minute)
	r, _ := workloadRequest(t, time.Hour)
	chain, err := a.Sign(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(chain.Leaf)
	if cert, err := x509.ParseCertificate(block.Bytes); err != nil || !cert.NotAfter.Equal(epoch.Add(24*time.Hour)) {
		t.Errorf("outlives its signer: %v %v", cert.NotAfter, err)
	}
	now = epoch.Add(24 * time.Hour)
	if _, err := a.Sign(t.Context(), r); err == nil {
		t.Error("an expired authority signs")
	}
}

// FuzzAuthority: whatever files are opened, what they sign verifies under the roots that they give.
func FuzzAuthority(f *testing.F) {
	files := pluggedFiles(f)
	key := ec(f, elliptic.P256())
	root := issueCA(f, "root", key.Public(), nil, key, time.Hour)
	f.Add(files[KeyCert], files[KeyKey], files[KeyChain], files[KeyRoot])
	f.Add(files[KeyCert], files[KeyKey], []byte{}, files[KeyRoot])
	f.Add(pemCert(root.Raw), ecPEM(f, key), []byte{}, pemCert(root.Raw))
	f.Add(files[KeyCert], files[KeyKey], files[KeyRoot], bytes.Repeat(files[KeyRoot], 3))
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), []byte{}, []byte{})
	r, _ := workloadRequest(f, time.Hour)
	f.Fuzz(func(t *testing.T, cert, key, chain, roots []byte) {
		a, err := NewAuthority(cert, key, chain, roots, clock)
		if err != nil {
			return
		}
		out, err := a.Sign(t.Context(), r)
		if err != nil {
			t.Fatalf("opened, and cannot sign: %v", err)
		}
		if err := out.Check(r, epoch); err != nil {
			t.Fatal(err)
		}
	})
}
