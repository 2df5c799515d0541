package ca

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ambit-mesh/ambit/controller/api/spiffe"
	"github.com/ambit-mesh/ambit/controller/auth"
)

var (
	epoch = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	web   = spiffe.ID{TrustDomain: "cluster.local", Namespace: "shop", ServiceAccount: "web"}
)

func clock() time.Time { return epoch }

type on map[string]bool

func (o on) Runs(node, ns, sa string) bool { return o[node+" "+ns+"/"+sa] }

func TestDecide(t *testing.T) {
	node := auth.Caller{Namespace: "ambit-system", ServiceAccount: "ambit-ztunnel", Node: "n1"}
	for _, tc := range []struct {
		name   string
		caller auth.Caller
		asks   string
		want   spiffe.ID
		reason Reason
	}{
		{"itself", node, "", spiffe.ID{TrustDomain: "cluster.local", Namespace: "ambit-system", ServiceAccount: "ambit-ztunnel"}, ""},
		{"a pod on its node", node, web.String(), web, ""},
		{"itself, not a node", auth.Caller{Namespace: "shop", ServiceAccount: "web"}, "", web, ""},
		{"nobody", auth.Caller{}, "", spiffe.ID{}, ReasonMalformed},
		{"not an identity", node, "spiffe://x", spiffe.ID{}, ReasonMalformed},
		{"not a node", auth.Caller{Namespace: "shop", ServiceAccount: "ambit-ztunnel", Node: "n1"}, web.String(), spiffe.ID{}, ReasonNotTrusted},
		{"no node", auth.Caller{Namespace: "ambit-system", ServiceAccount: "ambit-ztunnel"}, web.String(), spiffe.ID{}, ReasonNoNode},
		{"another mesh", node, "spiffe://other/ns/shop/sa/web", spiffe.ID{}, ReasonTrustDomain},
		{"on another node", auth.Caller{Namespace: "ambit-system", ServiceAccount: "ambit-ztunnel", Node: "n2"}, web.String(), spiffe.ID{}, ReasonNotResident},
		{"nowhere", node, "spiffe://cluster.local/ns/shop/sa/cart", spiffe.ID{}, ReasonNotResident},
	} {
		got, no := decide(tc.caller, tc.asks, "cluster.local", []string{"ambit-system/ambit-ztunnel"}, on{"n1 shop/web": true})
		if got != tc.want || (no == nil) != (tc.reason == "") || no != nil && no.reason != tc.reason {
			t.Errorf("%s: %v %v", tc.name, got, no)
		}
	}
}

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
	block, _ := pem.Decode([]byte(good))
	broken := append([]byte(nil), block.Bytes...)
	broken[len(broken)-1] ^= 1
	for _, tc := range []struct{ name, csr, want string }{
		{"p256", good, ""},
		{"p384", request(t, ec(t, elliptic.P384()), nil), ""},
		{"ed25519", request(t, edKey, nil), ""},
		{"rsa", request(t, rsaKey, nil), ""},
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

func TestSelfSigned(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	first, err := SelfSigned(dir, "cluster.local", clock)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, fileKey))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key: %v %v", info, err)
	}
	again, err := SelfSigned(dir, "cluster.local", clock)
	if err != nil || !bytes.Equal(first.Roots(), again.Roots()) {
		t.Errorf("the root did not survive: %v", err)
	}
	verify(t, again, 0)
	if err := os.WriteFile(filepath.Join(dir, fileCert), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := SelfSigned(dir, "cluster.local", clock); err == nil {
		t.Error("a broken root was accepted or replaced")
	}
}

// verify signs and checks what a node proxy checks.
func verify(t *testing.T, a *Authority, intermediates int) {
	t.Helper()
	key := ec(t, elliptic.P256())
	chain, err := a.Sign(t.Context(), Request{Key: key.Public(), ID: web, Lifetime: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	block, rest := pem.Decode(chain.Leaf)
	if more, _ := pem.Decode(rest); more != nil || len(chain.Intermediates) != intermediates {
		t.Errorf("chain: %d intermediates, want %d", len(chain.Intermediates), intermediates)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if id, err := spiffe.FromCertificate(cert); err != nil || id != web {
		t.Errorf("identity %v %v", id, err)
	}
	if !cert.NotAfter.Equal(epoch.Add(time.Hour)) || !cert.NotBefore.Equal(epoch.Add(-backdate)) || cert.IsCA {
		t.Errorf("valid %v to %v", cert.NotBefore, cert.NotAfter)
	}
	critical := false
	for _, e := range cert.Extensions {
		critical = critical || e.Id.String() == "2.5.29.17" && e.Critical
	}
	if !critical || cert.Subject.String() != "" {
		t.Error("without a subject the name must be critical (RFC 5280, 4.2.1.6)")
	}
	opts := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: epoch, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	opts.Roots.AppendCertsFromPEM(chain.Roots)
	for _, c := range chain.Intermediates {
		opts.Intermediates.AppendCertsFromPEM(c)
	}
	if _, err := cert.Verify(opts); err != nil {
		t.Error(err)
	}
}

// authority writes a plugged-in folder: a root and an intermediate that signs.
func authorityFiles(t *testing.T) (files map[string][]byte) {
	t.Helper()
	rootKey, key := ec(t, elliptic.P256()), ec(t, elliptic.P256())
	make := func(cn string, pub crypto.PublicKey, parent *x509.Certificate, signer crypto.Signer) *x509.Certificate {
		template := &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: cn}, NotBefore: epoch.Add(-time.Hour), NotAfter: epoch.Add(24 * time.Hour),
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
	root := make("root", rootKey.Public(), nil, rootKey)
	inter := make("intermediate", key.Public(), root, rootKey)
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{
		fileCert: pemCert(inter.Raw), fileKey: pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}),
		fileRoot: pemCert(root.Raw), fileChain: append(pemCert(inter.Raw), pemCert(root.Raw)...),
	}
}

func TestPluggedIn(t *testing.T) {
	files := authorityFiles(t)
	other := authorityFiles(t)
	write := func(files map[string][]byte) string {
		dir := t.TempDir()
		for name, data := range files {
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	with := func(name string, data []byte) map[string][]byte {
		out := map[string][]byte{}
		for k, v := range files {
			out[k] = v
		}
		out[name] = data
		return out
	}
	a, err := PluggedIn(write(files), clock)
	if err != nil {
		t.Fatal(err)
	}
	verify(t, a, 1)
	both := append(append([]byte(nil), files[fileRoot]...), other[fileRoot]...)
	if a, err := PluggedIn(write(with(fileRoot, both)), clock); err != nil || !bytes.Equal(a.Roots(), both) {
		t.Errorf("two roots: %v", err)
	}
	for name, broken := range map[string]map[string][]byte{
		"another key":  with(fileKey, other[fileKey]),
		"another root": with(fileRoot, other[fileRoot]),
		"no root":      with(fileRoot, nil),
		"no key":       with(fileKey, []byte("x")),
		"no chain":     with(fileChain, []byte("x")),
	} {
		if _, err := PluggedIn(write(broken), clock); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := PluggedIn(write(files), func() time.Time { return epoch.Add(48 * time.Hour) }); err == nil {
		t.Error("an expired authority was accepted")
	}
	late := *a
	late.now = func() time.Time { return epoch.Add(23*time.Hour + 30*time.Minute) }
	chain, err := late.Sign(t.Context(), Request{Key: ec(t, elliptic.P256()).Public(), ID: web, Lifetime: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(chain.Leaf)
	if cert, err := x509.ParseCertificate(block.Bytes); err != nil || !cert.NotAfter.Equal(epoch.Add(24*time.Hour)) {
		t.Errorf("outlives its signer: %v %v", cert.NotAfter, err)
	}
}

// FuzzCheckCSR: nothing panics, and nothing is accepted for a name it does not state.
func FuzzCheckCSR(f *testing.F) {
	good := request(f, ec(f, elliptic.P256()), nil)
	block, _ := pem.Decode([]byte(good))
	f.Add(block.Bytes)
	f.Add(block.Bytes[:40])
	f.Fuzz(func(t *testing.T, der []byte) {
		text := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
		if key, no := checkCSR(text, web); no == nil && key == nil {
			t.Fatal("accepted without a key")
		}
		if _, no := checkCSR(text, spiffe.ID{TrustDomain: "other", Namespace: "a", ServiceAccount: "b"}); no == nil {
			t.Fatal("accepted for another name")
		}
		_, _ = checkCSR(string(der), web)
	})
}

// FuzzAuthority: hostile files are errors.
func FuzzAuthority(f *testing.F) {
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, cert, key []byte) {
		if a, err := NewAuthority(cert, key, cert, cert, clock); err == nil && a.cert == nil {
			t.Fatal("authority without a certificate")
		}
	})
}
