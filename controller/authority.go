package controller

import (
	"bytes"
	"context"
	"crypto"
	"fmt"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ambit-mesh/ambit/controller/auth"
	"github.com/ambit-mesh/ambit/controller/ca"
)

// authority is the signer that this process has, with what keeps it up to date.
type authority interface {
	ca.Signer
	Expiry() (root, chain time.Time)
	// Run follows files and stores until ctx ends, on every replica.
	Run(ctx context.Context) error
}

// openAuthority opens the plugged-in authority, or the self-signed one in a store.
func openAuthority(ctx context.Context, cfg Config, store ca.Store, reg prometheus.Registerer) (authority, error) {
	m := ca.NewAuthorityMetrics(reg)
	if cfg.CACerts != "" {
		return ca.OpenPluggedIn(ca.PluggedInConfig{Dir: cfg.CACerts, Log: cfg.Log, Metrics: m, Now: time.Now})
	}
	return ca.OpenSelfSigned(ctx, ca.SelfSignedConfig{
		Store: store, TrustDomain: cfg.Translate.TrustDomain, Windows: ca.Windows{Overlap: cfg.RootOverlap, Settle: cfg.RootSettle},
		Log: cfg.Log, Metrics: m, Now: time.Now,
	})
}

// lead replaces the self-signed root when it is due; there is nothing to lead for other authorities. distributed is asked
// whether a bundle has reached everybody.
func lead(ctx context.Context, a authority, distributed func(context.Context, []byte) error) error {
	if s, ok := a.(*ca.SelfSigned); ok {
		return s.Lead(ctx, distributed)
	}
	return nil
}

// keepRootFile writes the bundle to a file, now and whenever it changes.
func keepRootFile(ctx context.Context, cfg Config, s ca.Signer) error {
	for {
		changed := s.Changed()
		wait := (<-chan time.Time)(nil)
		if err := ca.WriteFile(cfg.RootFile, s.Roots(), 0o644); err != nil {
			cfg.Log.Warn("root certificates cannot be written; trying again", "file", cfg.RootFile, "err", err)
			wait = time.After(statusRetry)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-wait:
		}
	}
}

// inRootFile reports whether the bundle is in the file from which nodes take it.
func inRootFile(cfg Config) func(context.Context, []byte) error {
	if cfg.RootFile == "" {
		return nil
	}
	return func(_ context.Context, roots []byte) error {
		text, err := os.ReadFile(cfg.RootFile)
		if err == nil && !bytes.Equal(text, roots) {
			err = fmt.Errorf("%s is not written yet", cfg.RootFile)
		}
		return err
	}
}

func openVerifier(files []string) (*auth.Verifier, error) {
	var keys []crypto.PublicKey
	for _, f := range files {
		key, err := auth.LoadPublicKey(f)
		if err != nil {
			return nil, fmt.Errorf("token keys: %w", err)
		}
		keys = append(keys, key)
	}
	return auth.NewVerifier(keys, time.Now)
}
