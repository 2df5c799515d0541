package controller

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ambit-mesh/ambit/controller/webhook"
)

// TestAdmissionPort: whoever trusts the mesh's roots reaches the webhook by Istio's name, and nobody else does.
func TestAdmissionPort(t *testing.T) {
	signer := openSelfSigned(t, t.TempDir())
	cfg := Config{Webhook: "127.0.0.1:0"}.Defaults()
	s, lis, err := openAdmission(cfg, newServingCert(signer, cfg.ServerNames, slog.New(slog.DiscardHandler), time.Now), prometheus.NewRegistry(), testMetrics())
	if err != nil {
		t.Fatal(err)
	}
	s.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- serveHTTP(ctx, s, lis) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	ask := func(roots []byte) (int, string, error) {
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(roots)
		tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "istiod.istio-system.svc"}}
		defer tr.CloseIdleConnections()
		resp, err := (&http.Client{Transport: tr}).Post("https://"+lis.Addr().String()+webhook.Path, "application/json", strings.NewReader(`{
			"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u","operation":"CREATE","kind":{"group":"security.istio.io"},
			"object":{"apiVersion":"security.istio.io/v1","kind":"AuthorizationPolicy","metadata":{"name":"p"},"spec":{"action":"DENY"}}}}`))
		if err != nil {
			return 0, "", err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return resp.StatusCode, string(body), err
	}
	if code, body, err := ask(signer.Roots()); err != nil || code != 200 || !strings.Contains(body, "DENY without rules never matches") {
		t.Errorf("%d %s %v", code, body, err)
	}
	if _, _, err := ask(nil); err == nil {
		t.Error("trusted without a root")
	}
}
