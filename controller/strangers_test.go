package controller

import (
	"context"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	caapi "github.com/ambit-mesh/ambit/controller/api/ca"
	"github.com/ambit-mesh/ambit/controller/auth"
)

// TestStrangers: a pod with a token of its own, which may ask for its own certificate, cannot have the controller take in
// megabytes. A node proxy can, and is told what is wrong with them.
func TestStrangers(t *testing.T) {
	r := start(t, t.TempDir())
	send := func(caller auth.Caller) error {
		ctx, cancel := context.WithTimeout(withToken(context.Background(), r.key.mint(caller)), timeout)
		defer cancel()
		_, err := caapi.NewIstioCertificateServiceClient(r.dial(t)).CreateCertificate(ctx, &caapi.IstioCertificateRequest{Csr: strings.Repeat("x", 8<<20)})
		return err
	}
	if err := send(auth.Caller{Namespace: "shop", ServiceAccount: "web", Pod: "web-1", PodUID: "u"}); status.Code(err) != codes.Unavailable {
		t.Errorf("a pod: %v", err)
	}
	if text := getText(t, "http://"+r.http+"/metrics"); !strings.Contains(text, `ambit_controller_connections_refused_total{port="grpc",reason="too_much_of_unknown"}`) {
		t.Error("it is not counted")
	}
	if err := send(ztunnel("n1")); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "certificate request of") {
		t.Errorf("a node proxy: %v", err)
	}
}

// TestImpossible: what cannot work is refused at the start.
func TestImpossible(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"account without a namespace": {func(c *Config) { c.NodeAccounts = []string{"ztunnel"} }, `"ztunnel": want namespace/name`},
		"certificates of the past":    {func(c *Config) { c.DefaultTTL = -1 }, "negative"},
		"roots of the past":           {func(c *Config) { c.RootSettle = -1 }, "negative"},
	} {
		c := Config{Manifests: t.TempDir(), CADir: t.TempDir(), TokenKeys: []string{"key"}}
		if err := c.Defaults().validate(); err != nil {
			t.Fatal(err)
		}
		tc.change(&c)
		if err := c.Defaults().validate(); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
