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
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

// Files of an authority's folder; the names are those of Istio's Secrets istio-ca-secret and cacerts.
const (
	fileCert  = "ca-cert.pem"
	fileKey   = "ca-key.pem"
	fileChain = "cert-chain.pem"
	fileRoot  = "root-cert.pem"
)

// rootLifetime is that of a self-signed root.
const rootLifetime = 10 * 365 * 24 * time.Hour

// SelfSigned opens the root kept in dir, and makes one if there is none. The key is readable by its owner only.
func SelfSigned(dir, trustDomain string, now func() time.Time) (*Authority, error) {
	if _, err := os.Stat(filepath.Join(dir, fileKey)); errors.Is(err, fs.ErrNotExist) {
		if err := createRoot(dir, trustDomain, now()); err != nil {
			return nil, fmt.Errorf("self-signed root: %w", err)
		}
	}
	cert, err := os.ReadFile(filepath.Join(dir, fileCert))
	if err != nil {
		return nil, fmt.Errorf("self-signed root: %w", err)
	}
	return open(dir, cert, cert, now)
}

// PluggedIn opens an authority that someone else made: ca-cert.pem, ca-key.pem, root-cert.pem and, if the signing certificate
// is not itself signed by a root, cert-chain.pem.
func PluggedIn(dir string, now func() time.Time) (*Authority, error) {
	roots, err := os.ReadFile(filepath.Join(dir, fileRoot))
	if err != nil {
		return nil, fmt.Errorf("plugged-in authority: %w", err)
	}
	chain, err := os.ReadFile(filepath.Join(dir, fileChain))
	if errors.Is(err, fs.ErrNotExist) {
		chain, err = os.ReadFile(filepath.Join(dir, fileCert))
	}
	if err != nil {
		return nil, fmt.Errorf("plugged-in authority: %w", err)
	}
	return open(dir, chain, roots, now)
}

// open reads certificate and key from dir and holds them against the chain and the roots.
func open(dir string, chain, roots []byte, now func() time.Time) (*Authority, error) {
	certPEM, err := os.ReadFile(filepath.Join(dir, fileCert))
	if err != nil {
		return nil, fmt.Errorf("authority: %w", err)
	}
	keyPEM, err := os.ReadFile(filepath.Join(dir, fileKey))
	if err != nil {
		return nil, fmt.Errorf("authority: %w", err)
	}
	a, err := NewAuthority(certPEM, keyPEM, chain, roots, now)
	if err != nil {
		return nil, fmt.Errorf("authority in %s: %w", dir, err)
	}
	return a, nil
}

// NewAuthority makes an authority of PEM texts. chain holds the intermediates from the signing certificate upwards, with or
// without the roots.
func NewAuthority(certPEM, keyPEM, chain, roots []byte, now func() time.Time) (*Authority, error) {
	certs, err := parseCerts(certPEM)
	if err != nil {
		return nil, fmt.Errorf("signing certificate: %w", err)
	}
	cert := certs[0]
	key, err := parseKey(keyPEM)
	if err != nil {
		return nil, err
	}
	if pub, ok := cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !pub.Equal(key.Public()) {
		return nil, errors.New("signing key is not that of the signing certificate")
	}
	rootCerts, err := parseCerts(roots)
	if err != nil {
		return nil, fmt.Errorf("roots: %w", err)
	}
	chainCerts, err := parseCerts(chain)
	if err != nil {
		return nil, fmt.Errorf("chain: %w", err)
	}
	a := &Authority{cert: cert, key: key, roots: roots, now: now}
	pool, inter := x509.NewCertPool(), x509.NewCertPool()
	isRoot := map[string]bool{}
	for _, r := range rootCerts {
		pool.AddCert(r)
		isRoot[string(r.Raw)] = true
	}
	if !isRoot[string(cert.Raw)] && !bytes.Equal(chainCerts[0].Raw, cert.Raw) {
		chainCerts = append([]*x509.Certificate{cert}, chainCerts...)
	}
	for _, c := range chainCerts {
		if !isRoot[string(c.Raw)] {
			inter.AddCert(c)
			a.intermediates = append(a.intermediates, pemCert(c.Raw))
		}
	}
	if !cert.IsCA {
		return nil, errors.New("signing certificate is not that of an authority")
	}
	opts := x509.VerifyOptions{Roots: pool, Intermediates: inter, CurrentTime: now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
	if _, err := cert.Verify(opts); err != nil {
		return nil, fmt.Errorf("signing certificate: %w", err)
	}
	return a, nil
}

// createRoot makes key and certificate. The key is written last: as long as there is none, the next start begins anew.
func createRoot(dir, trustDomain string, now time.Time) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{Organization: []string{trustDomain}, CommonName: "Ambit root"},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(rootLifetime),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, BasicConstraintsValid: true, IsCA: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, fileCert), pemCert(der), 0o644); err != nil {
		return err
	}
	return WriteFile(filepath.Join(dir, fileKey), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600)
}

// WriteFile replaces a file whole or not at all.
func WriteFile(path string, data []byte, mode fs.FileMode) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".tmp-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(data)
	if err := errors.Join(err, tmp.Chmod(mode), tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

func parseCerts(data []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, errors.New("no certificate")
	}
	return out, nil
}

// parseKey reads the forms in which Istio and openssl write keys.
func parseKey(data []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New("signing key: not PEM")
	}
	var key any
	var err error
	switch block.Type {
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	default:
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	}
	if err != nil {
		return nil, fmt.Errorf("signing key: %w", err)
	}
	switch k := key.(type) {
	case *ecdsa.PrivateKey:
		return k, nil
	case *rsa.PrivateKey:
		return k, nil
	default:
		return nil, fmt.Errorf("signing key of type %T: want ECDSA or RSA", key)
	}
}
