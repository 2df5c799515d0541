package cert

import (
	"crypto"
	"crypto/tls"
	"slices"

	"github.com/ambit-mesh/ambit/controller/api/spiffe"
)

// alpn is the one protocol that both sides offer (HTTP/2, RFC 9113 section 3.2).
const alpn = "h2"

// keyExchanges are what we offer, the post-quantum hybrid first. crypto/tls orders by itself, hybrids before all others
// (since Go 1.24); TestHandshake sees that it is the one chosen.
var keyExchanges = []tls.CurveID{tls.X25519MLKEM768, tls.X25519, tls.CurveP256, tls.CurveP384}

// configure builds both TLS configurations, once per certificate.
func (c *Certificate) configure(key crypto.Signer) {
	own := tls.Certificate{PrivateKey: key, Leaf: c.Leaf()}
	for _, crt := range c.Chain {
		own.Certificate = append(own.Certificate, crt.Raw)
	}
	base := tls.Config{
		Certificates:     []tls.Certificate{own},
		MinVersion:       tls.VersionTLS13,
		MaxVersion:       tls.VersionTLS13,
		NextProtos:       []string{alpn},
		CurvePreferences: keyExchanges,
		// A resumed session would outlive rotation and skip the look at the chain.
		SessionTicketsDisabled: true,
		// Full-size records from the first byte on; it also says that hbone need not copy this configuration.
		DynamicRecordSizingDisabled: true,
		// Renegotiation does not exist in TLS 1.3. The size of records is crypto/tls's.
	}
	c.server = base.Clone()
	// The chain is verified by our own callback, so that the reasons are ours; that callback always runs.
	c.server.ClientAuth = tls.RequireAnyClientCert
	c.server.VerifyConnection = c.verifyClient

	c.client = base.Clone()
	c.client.ServerName = ""           // no SNI
	c.client.InsecureSkipVerify = true // names are not host names: verifyServer does it all
	c.client.VerifyConnection = func(cs tls.ConnectionState) error { return c.verifyServer(cs, nil) }
}

// Server is the configuration of the accepting side: shared by all connections, not to be changed. It asks for a client
// certificate and accepts those of the own trust domain that lead to Roots.
func (c *Certificate) Server() *tls.Config { return c.server }

// Client is the configuration of the connecting side to a peer that must have one of the expected identities. An empty
// list accepts nobody. It is a copy of a prepared configuration (BenchmarkClientConfig says what that costs), valid for
// any number of connections that expect the same.
func (c *Certificate) Client(expected []spiffe.ID) *tls.Config {
	cfg := c.client.Clone()
	expected = slices.Clone(expected)
	cfg.VerifyConnection = func(cs tls.ConnectionState) error { return c.verifyServer(cs, expected) }
	return cfg
}
