package controller

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ambit-mesh/ambit/controller/validate"
	"github.com/ambit-mesh/ambit/controller/webhook"
)

// reviewWithin is how long one review may take to come and be answered; API servers wait 10 s by default.
const reviewWithin = 15 * time.Second

// openAdmission listens for the API server's questions about objects, with the certificate of the mesh: WebhookBundles of
// package kube make the API server trust it.
func openAdmission(cfg Config, cert *servingCert, reg prometheus.Registerer, m *metrics) (*http.Server, net.Listener, error) {
	lis, err := net.Listen("tcp", cfg.Webhook)
	if err != nil {
		return nil, nil, fmt.Errorf("webhook port: %w", err)
	}
	s := newHTTP(webhook.New(webhook.Config{
		Log: cfg.Log, Registry: reg, Settings: validate.Settings{RootNamespace: cfg.Translate.Defaults().RootNamespace},
	}))
	s.ReadTimeout, s.WriteTimeout = reviewWithin, reviewWithin
	cfg.Log.Info("admission webhook is serving", "address", lis.Addr().String(), "path", webhook.Path)
	lis = newConns(lis, webhookLimits, cfg.Log, m)
	return s, tls.NewListener(lis, &tls.Config{GetCertificate: cert.get, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}), nil
}
