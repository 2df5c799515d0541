package signertest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ambit-mesh/ambit/controller/ca"
)

func selfSigned(t *testing.T) (*ca.SelfSigned, string) {
	t.Helper()
	dir := t.TempDir()
	s, err := ca.OpenSelfSigned(t.Context(), ca.SelfSignedConfig{
		Store: ca.NewFolder(dir), TrustDomain: "cluster.local", Windows: ca.Windows{Overlap: 24 * time.Hour, Settle: time.Hour},
		Log: slog.New(slog.DiscardHandler), Metrics: ca.NewAuthorityMetrics(prometheus.NewRegistry()), Now: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	return s, dir
}

// TestBuiltIn: the signers that we have keep the contract.
func TestBuiltIn(t *testing.T) {
	s, made := selfSigned(t)
	Run(t, s, time.Now, time.Hour)
	dir := t.TempDir()
	for from, to := range map[string]string{ca.KeyCert: "tls.crt", ca.KeyKey: "tls.key"} {
		data, err := os.ReadFile(filepath.Join(made, from))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, to), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "ca.crt"), s.Roots(), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := ca.OpenPluggedIn(ca.PluggedInConfig{
		Dir: dir, Log: slog.New(slog.DiscardHandler), Metrics: ca.NewAuthorityMetrics(prometheus.NewRegistry()), Now: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	Run(t, p, time.Now, time.Hour)
}

// twisted is a signer that does one thing wrong.
type twisted struct {
	ca.Signer
	ask    func(*ca.Request)
	answer func(*ca.Chain)
	hang   chan struct{}
}

func (s twisted) Sign(ctx context.Context, r ca.Request) (ca.Chain, error) {
	if s.hang != nil && ctx.Err() != nil {
		<-s.hang
	}
	if s.ask != nil {
		s.ask(&r)
	}
	c, err := s.Signer.Sign(ctx, r)
	if s.answer != nil {
		s.answer(&c)
	}
	return c, err
}

// TestFindsProblems: what is wrong with a signer is found.
func TestFindsProblems(t *testing.T) {
	good, _ := selfSigned(t)
	other, _ := selfSigned(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) })
	for _, tc := range []struct {
		name, want string
		s          twisted
	}{
		{"another key", "another key", twisted{ask: func(r *ca.Request) { r.Key = key.Public() }}},
		{"another identity", "leaf names", twisted{ask: func(r *ca.Request) { r.ID.ServiceAccount = "admin" }}},
		{"one name more", "not asked for", twisted{ask: func(r *ca.Request) { r.DNSNames = append(r.DNSNames, "istiod") }}},
		{"too long", "valid until", twisted{ask: func(r *ca.Request) { r.Lifetime += time.Hour }}},
		{"too short", "asked for", twisted{ask: func(r *ca.Request) { r.Lifetime = time.Second }}},
		{"other roots", "against the roots", twisted{answer: func(c *ca.Chain) { c.Roots = other.Roots() }}},
		{"more roots", "other roots", twisted{answer: func(c *ca.Chain) { c.Roots = append(c.Roots, other.Roots()...) }}},
		{"no roots", "roots", twisted{answer: func(c *ca.Chain) { c.Roots = nil }}},
		{"two leaves", "one PEM", twisted{answer: func(c *ca.Chain) { c.Leaf = append(c.Leaf, c.Leaf...) }}},
		{"intermediates in one", "intermediate", twisted{answer: func(c *ca.Chain) { c.Intermediates = [][]byte{append(good.Roots(), good.Roots()...)} }}},
		{"hangs", "does not return", twisted{hang: hang}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			tc.s.Signer = good
			var text []string
			for _, err := range Problems(t.Context(), tc.s, time.Now, time.Hour) {
				text = append(text, err.Error())
			}
			if !strings.Contains(strings.Join(text, "\n"), tc.want) {
				t.Errorf("found %q, want %q", text, tc.want)
			}
		})
	}
}
