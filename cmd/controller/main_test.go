package main

import (
	"context"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/ambit-mesh/ambit/controller"
)

// TestTwoSources: two sources that were both asked for are an error; a folder in a pod is not.
func TestTwoSources(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
	for want, args := range map[string][]string{
		"no folder for the certificate authority given":  {"--manifests", t.TempDir()},
		"an API server and a manifest folder given":      {"--manifests", t.TempDir(), "--in-cluster"},
		`node account "ztunnel": want namespace/name`:    {"--in-cluster", "--node-account", "ztunnel"},
		"negative lifetime, overlap or settling time":    {"--in-cluster", "--root-settle", "-1h"},
		"default certificate lifetime 2h0m0s is above":   {"--in-cluster", "--default-cert-ttl", "2h", "--max-cert-ttl", "1h"},
		"neither an API server nor a manifest folder gi": {"--in-cluster=false"},
	} {
		cmd := command(io.Discard, io.Discard, controller.Run)
		cmd.SetArgs(args)
		if err := cmd.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v", args, err)
		}
	}
}

// TestNamespaces: names that are not given follow the namespaces that are: clients and the API server verify them.
func TestNamespaces(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	t.Setenv("POD_NAMESPACE", "")
	for _, tc := range []struct {
		args     string
		names    []string
		accounts []string
	}{
		{"--in-cluster", []string{"ambit-controller.ambit-system.svc", "istiod.istio-system.svc"}, []string{"ambit-system/ambit-ztunnel", "istio-system/ztunnel"}},
		{"--in-cluster --namespace a --root-namespace b", []string{"ambit-controller.a.svc", "ambit-controller.a.svc.cluster.local", "istiod.b.svc"}, []string{"a/ambit-ztunnel", "b/ztunnel"}},
		{"--in-cluster --namespace a --server-name x --node-account c/d", []string{"x"}, []string{"c/d"}},
	} {
		var cfg controller.Config
		cmd := command(io.Discard, io.Discard, func(_ context.Context, given controller.Config) error { cfg = given.Defaults(); return nil })
		cmd.SetArgs(strings.Fields(tc.args))
		if err := cmd.ExecuteContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, n := range tc.names {
			if !slices.Contains(cfg.ServerNames, n) {
				t.Errorf("%s: certificate for %v, want %s among them", tc.args, cfg.ServerNames, n)
			}
		}
		if !slices.Equal(cfg.NodeAccounts, tc.accounts) {
			t.Errorf("%s: node accounts %v, want %v", tc.args, cfg.NodeAccounts, tc.accounts)
		}
	}
}
