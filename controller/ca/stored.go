package ca

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"time"
)

// stored is a self-signed authority's data, understood. Immutable.
type stored struct {
	data     map[string][]byte
	version  string
	rotation Rotation
	request  string
	signs    *Authority
	old      *x509.Certificate // the root that signed before the rotation; without one, the root that signs
}

// openStored reads data. In every phase it is an error if something is missing that the phase needs.
func openStored(data map[string][]byte, version string, now func() time.Time) (*stored, error) {
	s := &stored{data: data, version: version, request: string(bytes.TrimSpace(data[KeyRotate]))}
	if len(s.request) > maxRequest {
		return nil, fmt.Errorf("%s of %d bytes: want at most %d", KeyRotate, len(s.request), maxRequest)
	}
	var err error
	if s.rotation, err = parseRotation(data[KeyRotation]); err != nil {
		return nil, err
	}
	roots := data[KeyRoot]
	if len(bytes.TrimSpace(roots)) == 0 {
		roots = data[KeyCert] // as Istio stores a self-signed root
	}
	own, err := parseCerts(roots)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", KeyCert, err)
	}
	if key := map[Phase]string{Distributing: KeyNextCert, Switched: KeyPrevious}[s.rotation.Phase]; key != "" {
		other, err := parseCerts(data[key])
		if err != nil {
			return nil, fmt.Errorf("rotation is %s; %s: %w", s.rotation.Phase, key, err)
		}
		if s.rotation.Phase == Switched {
			s.old = other[0]
		}
		own = append(own, other...)
		roots = joinCerts(own...)
	}
	if s.signs, err = NewAuthority(data[KeyCert], data[KeyKey], bytes.TrimSpace(data[KeyChain]), roots, now); err != nil {
		return nil, err
	}
	if s.old == nil {
		s.old = s.signs.chain[len(s.signs.chain)-1]
	}
	return s, nil
}

// facts are those of the next step.
func (s *stored) facts(now time.Time, distributed bool) facts {
	return facts{now: now, from: s.old.NotBefore, to: s.old.NotAfter, request: s.request, distributed: distributed}
}

// apply is the data after a step.
func (s *stored) apply(what step, why Cause, trustDomain string, life time.Duration, now time.Time) (map[string][]byte, error) {
	data, r := maps.Clone(s.data), s.rotation
	switch what {
	case stepBegin:
		if len(s.signs.chain) > 1 {
			return nil, errors.New("the stored authority is not a root of its own: its owner must replace it")
		}
		root, err := createRoot(trustDomain, life, now)
		if err != nil {
			return nil, err
		}
		data[KeyNextCert], data[KeyNextKey] = root[KeyCert], root[KeyKey]
		r = Rotation{Phase: Distributing, Cause: why, Request: r.Request}
		if why == CauseOperator {
			r.Request = s.request
		}
	case stepNote:
		r.Since = now
	case stepSwitch:
		if _, err := NewAuthority(data[KeyNextCert], data[KeyNextKey], nil, data[KeyNextCert], s.signs.now); err != nil {
			return nil, fmt.Errorf("next root: %w", err)
		}
		data[KeyPrevious] = pemCert(s.old.Raw)
		data[KeyCert], data[KeyKey] = data[KeyNextCert], data[KeyNextKey]
		if more, err := parseCerts(data[KeyRoot]); err == nil { // other meshes' roots stay trusted
			more = slices.DeleteFunc(more, func(c *x509.Certificate) bool { return c.Equal(s.old) })
			data[KeyRoot] = slices.Concat(data[KeyCert], joinCerts(more...))
		}
		delete(data, KeyNextCert)
		delete(data, KeyNextKey)
		delete(data, KeyChain)
		r.Phase, r.Since = Switched, now
	case stepFinish:
		delete(data, KeyPrevious)
		r = Rotation{Request: r.Request}
		if len(data[KeyNextCert]) > 0 { // somebody has stored another root meanwhile
			r.Phase, r.Cause = Distributing, CauseReplaced
		}
	case stepNone:
	}
	return withRotation(data, r)
}

// withRotation is data, changed, with where a rotation stands.
func withRotation(data map[string][]byte, r Rotation) (map[string][]byte, error) {
	text, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	data[KeyRotation] = text
	return data, nil
}

// createRoot makes a key and a certificate that signs itself, ECDSA P-256, in Istio's form.
func createRoot(trustDomain string, life time.Duration, now time.Time) (map[string][]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("root key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("root serial number: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{Organization: []string{trustDomain}, CommonName: "Ambit root " + now.UTC().Format(time.DateOnly)},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(life),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, BasicConstraintsValid: true, IsCA: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("root certificate: %w", err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("root key: %w", err)
	}
	return map[string][]byte{
		KeyCert: pemCert(der), KeyKey: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
		KeyChain: {}, KeyRoot: {}, KeyOther: {},
	}, nil
}
