package hostile

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/ambit-mesh/ambit/test/netlab"
	"github.com/ambit-mesh/ambit/test/netlab/mesh"
)

// handshakes attacks the victim's 15008 with what is no handshake of ours. The log says what was wrong, and it is counted.
func (w *world) handshakes(t *testing.T) {
	expired := func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
	}
	for _, attack := range []struct {
		name string
		send func(t *testing.T, c net.Conn) []byte // what came back
		log  string
	}{
		{"garbage", raw(strings.Repeat("\xff\x00garbage", 500)), "first record does not look like a TLS handshake"},
		{"plaintext HTTP", raw("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), "first record does not look like a TLS handshake"},
		{"plaintext HTTP/2", raw("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), "first record does not look like a TLS handshake"},
		{"record too long", raw("\x16\x03\x01\xff\xff" + strings.Repeat("x", 1000)), "oversized record"},
		{"TLS 1.2", shake(&tls.Config{MaxVersion: tls.VersionTLS12}), "unsupported versions"},
		{"no certificate", shake(&tls.Config{}), "client didn't provide a certificate"},
		{"another CA", shake(with(w.forge(t, false, func(*x509.Certificate) {}))), "unknown authority"},
		{"another trust domain", shake(with(w.forge(t, true, func(c *x509.Certificate) {
			c.URIs = []*url.URL{named("spiffe://elsewhere/ns/safe/sa/client")}
		}))), "another trust domain"},
		{"expired", shake(with(w.forge(t, true, expired))), "expired"},
		{"no SPIFFE id", shake(with(w.forge(t, true, func(c *x509.Certificate) { c.URIs = []*url.URL{named("https://client")} }))), "spiffe"},
		{"for servers only", shake(with(w.forge(t, true, func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		}))), "incompatible key usage"},
		{"a CA as a leaf", shake(with(w.forge(t, true, func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }))), "CA certificate where a leaf belongs"},
	} {
		t.Run(attack.name, func(t *testing.T) {
			mark := w.mark(t, mesh.ZtunnelName("n2"))
			w.counted(t, "n2", "ambit_ztunnel_connections_rejected", map[string]string{"reason": "TLSHandshake"}, 1, func() {
				if got := hit(t, w.stranger, at(w.victim, 15008), attack.send); leaks(got) {
					t.Errorf("answered with %q", got)
				}
			})
			w.logged(t, mesh.ZtunnelName("n2"), mark, attack.log, at(w.victim, 15008))
			// The own ztunnel stands between a pod of the mesh and the port: it lets nothing through at all.
			if got := hit(t, w.attacker, at(w.victim, 15008), attack.send); leaks(got) {
				t.Errorf("from a pod in the mesh: answered with %q", got)
			}
		})
	}
}

// hit connects, attacks, and returns what was answered until the connection ended, which it must.
func hit(t *testing.T, from netlab.Pod, to string, send func(*testing.T, net.Conn) []byte) []byte {
	t.Helper()
	conn, err := dial(t.Context(), from, to, 5*time.Second)
	if err != nil {
		return nil // not even a connection
	}
	defer conn.Close()
	must(t, conn.SetDeadline(time.Now().Add(15*time.Second)))
	return send(t, conn)
}

// leaks reports whether bytes are anything but TLS: an alert, or a server's first flight, say nothing of the pod.
func leaks(answer []byte) bool { return len(answer) > 0 && answer[0] != 0x15 && answer[0] != 0x16 }

func raw(text string) func(*testing.T, net.Conn) []byte {
	return func(t *testing.T, c net.Conn) []byte {
		_, _ = io.WriteString(c, text) // may be cut by a reset
		return drain(t, c)
	}
}

// drain reads until the other side has ended the connection.
func drain(t *testing.T, c net.Conn) []byte {
	t.Helper()
	var got bytes.Buffer
	_, err := io.Copy(&got, io.LimitReader(c, 1<<20))
	var slow net.Error
	if asTimeout(err, &slow) {
		t.Error("the connection was left open")
	}
	return got.Bytes()
}

// with presents a certificate.
func with(crt tls.Certificate) *tls.Config { return &tls.Config{Certificates: []tls.Certificate{crt}} }

// shake does a handshake and wants to be refused. In TLS 1.3 a client learns of it when it first reads.
func shake(cfg *tls.Config) func(*testing.T, net.Conn) []byte {
	cfg = cfg.Clone()
	cfg.InsecureSkipVerify, cfg.NextProtos = true, []string{"h2"} //nolint:gosec // the attacker does not care who it attacks
	return func(t *testing.T, c net.Conn) []byte {
		peer := tls.Client(c, cfg)
		_ = peer.Handshake()
		got, err := io.ReadAll(io.LimitReader(peer, 1<<20))
		var slow net.Error
		switch {
		case asTimeout(err, &slow):
			t.Error("the connection was left open")
		case err == nil:
			t.Error("the connection was accepted")
		}
		return got
	}
}
