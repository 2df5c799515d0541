package ca

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net"
	"testing"
	"time"
)

// workload is a node proxy's side of one identity: it holds a certificate and the roots that came with it, until it renews.
type workload struct {
	at   time.Time // of renewal
	cert *tls.Certificate
	pool *x509.CertPool
}

// renew gets a new certificate if it is time, as ztunnel/cert does: at half of the life.
func (w *workload) renew(t *testing.T, s Signer, now time.Time) {
	t.Helper()
	if w.cert != nil && now.Before(w.at) {
		return
	}
	r, key := workloadRequest(t, 24*time.Hour)
	chain, err := s.Sign(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if err := chain.Check(r, now); err != nil {
		t.Fatal(err)
	}
	if w.cert == nil { // so that not all renew at once
		w.at = now.Add(w.at.Sub(now) % (12 * time.Hour))
	} else {
		w.at = now.Add(12 * time.Hour)
	}
	w.cert, w.pool = tlsCert(t, chain, key), x509.NewCertPool()
	w.pool.AppendCertsFromPEM(chain.Roots)
}

func tlsCert(t *testing.T, chain Chain, key *ecdsa.PrivateKey) *tls.Certificate {
	t.Helper()
	out := &tls.Certificate{PrivateKey: key}
	for _, text := range append([][]byte{chain.Leaf}, chain.Intermediates...) {
		block, _ := pem.Decode(text)
		out.Certificate = append(out.Certificate, block.Bytes)
	}
	return out
}

// handshake connects a client to a server over TLS 1.3, each checking the other against its own roots, and exchanges a byte.
func handshake(client, server *workload) error {
	c, s := net.Pipe()
	defer c.Close()
	defer s.Close()
	served := make(chan error, 1)
	go func() {
		conn := tls.Server(s, &tls.Config{
			Certificates: []tls.Certificate{*server.cert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: server.pool, MinVersion: tls.VersionTLS13,
			SessionTicketsDisabled: true,
		})
		_, err := conn.Write([]byte{1})
		if err != nil {
			s.Close()
		}
		served <- err
	}()
	conn := tls.Client(c, &tls.Config{
		Certificates: []tls.Certificate{*client.cert}, InsecureSkipVerify: true, MinVersion: tls.VersionTLS13, // names are SPIFFE ids
		VerifyConnection: func(st tls.ConnectionState) error {
			_, err := st.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: client.pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
			return err
		},
	})
	_, err := conn.Read(make([]byte, 1))
	if err != nil {
		c.Close()
	}
	return errors.Join(err, <-served)
}
