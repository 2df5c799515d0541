package auth

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// CreateKey makes the lab's signing key: the private half at path, mode 0600, the public half beside it at path.pub. A key that
// is there already is kept, so that tokens outlive a restart of the lab.
func CreateKey(path string) (crypto.Signer, error) {
	key, err := LoadKey(path)
	if errors.Is(err, fs.ErrNotExist) {
		_, made, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return nil, fmt.Errorf("token key: %w", err)
		}
		key = made
		der, err := x509.MarshalPKCS8PrivateKey(made)
		if err != nil {
			return nil, fmt.Errorf("token key: %w", err)
		}
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
			return nil, fmt.Errorf("token key: %w", err)
		}
	} else if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, fmt.Errorf("token key: %w", err)
	}
	if err := os.WriteFile(path+".pub", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o644); err != nil {
		return nil, fmt.Errorf("token key: %w", err)
	}
	return key, nil
}

// LoadKey reads a signing key.
func LoadKey(path string) (crypto.Signer, error) {
	der, err := readPEM(path, "PRIVATE KEY")
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("token key %s: %w", path, err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("token key %s: a %T cannot sign", path, key)
	}
	return signer, nil
}

// LoadPublicKey reads the key that CreateKey left at path.pub.
func LoadPublicKey(path string) (crypto.PublicKey, error) {
	der, err := readPEM(path, "PUBLIC KEY")
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, fmt.Errorf("token key %s: %w", path, err)
	}
	return key, nil
}

func readPEM(path, kind string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("token key: %w", err)
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != kind {
		return nil, fmt.Errorf("token key %s: not a PEM file with a %s", path, kind)
	}
	return block.Bytes, nil
}
