package ztunnel

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ambit-mesh/ambit/ztunnel/cert/certtest"
)

// settings are a ztunnel's whose agent and control plane are not there.
func settings(t *testing.T) Config {
	t.Helper()
	dir := t.TempDir()
	root, token := filepath.Join(dir, "root.pem"), filepath.Join(dir, "token")
	bundle := certtest.New(t).Issue(t, certtest.ID("a/b")).Roots[0]
	if err := errors.Join(os.WriteFile(root, pemOf(bundle.Raw), 0o600), os.WriteFile(token, []byte("t"), 0o600)); err != nil {
		t.Fatal(err)
	}
	cfg := Config{
		Node: "n1", Pod: "ztunnel-1", Handoff: filepath.Join(dir, "none.sock"),
		Admin: []string{"127.0.0.1:0"}, Metrics: []string{"127.0.0.1:0"}, Ready: []string{freePort(t)},
		Log: slog.New(slog.DiscardHandler), Level: new(slog.LevelVar), AccessLog: io.Discard, DrainTimeout: time.Second,
	}
	cfg.XDS.Address, cfg.XDS.RootFile, cfg.XDS.TokenFile = freePort(t), root, token
	cfg.CA = cfg.XDS
	return cfg
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// Without an agent and a control plane the ztunnel waits for both, says so, and ends in order when it is told to.
func TestRunWaitsAndEnds(t *testing.T) {
	cfg := settings(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, cfg) }()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Second}
	var said string
	eventually(t, "readiness is served", func() bool {
		resp, err := client.Get("http://" + cfg.Ready[0] + "/healthz/ready")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		said = string(body)
		return resp.StatusCode == http.StatusInternalServerError
	})
	for _, part := range []string{"state manager", "workload proxy manager", "certificates"} {
		if !strings.Contains(said, part) {
			t.Errorf("not ready because of %q, and nothing of %s", said, part)
		}
	}
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("ended with %v", err)
		}
	case <-time.After(patience):
		t.Fatal("does not end")
	}
}

func TestRunRefuses(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"the node agent's socket is not named":           func(c *Config) { c.Handoff = "" },
		"the control plane's address is not named":       func(c *Config) { c.XDS.Address = "" },
		"the certificate authority's address":            func(c *Config) { c.CA.Address = "" },
		"admin: ready":                                   func(c *Config) { c.Ready = []string{"127.0.0.1:99999"} },
		"control plane root certificates: no file named": func(c *Config) { c.CA.RootFile = "" },
	} {
		cfg := settings(t)
		change(&cfg)
		if err := Run(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("got %v, want %q", err, name)
		}
	}
	if os.Geteuid() == 0 {
		cfg := settings(t)
		cfg.RequireUnprivileged = true
		if err := Run(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "must run without privileges") {
			t.Errorf("as root: %v", err)
		}
	}
}
