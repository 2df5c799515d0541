package controller

import (
	"slices"
	"testing"

	"github.com/ambit-mesh/ambit/controller/translate"
)

// TestNames: wherever the controller is installed, its certificate has the names that node proxies, the API server and clients of an
// existing mesh dial, and the node proxies beside it are known as such.
func TestNames(t *testing.T) {
	for what, c := range map[string]struct {
		cfg      Config
		names    []string
		accounts []string
	}{
		"usual": {
			Config{Kubernetes: &Kubernetes{}},
			[]string{"ambit-controller.ambit-system.svc", "ambit-controller.ambit-system.svc.cluster.local", "istiod.istio-system.svc"},
			[]string{"ambit-system/ambit-ztunnel", "istio-system/ztunnel"},
		},
		"lab": {
			Config{}, []string{"ambit-controller.ambit-system.svc", "istiod.istio-system.svc"}, []string{"ambit-system/ambit-ztunnel", "istio-system/ztunnel"},
		},
		"others": {
			Config{Kubernetes: &Kubernetes{Namespace: "mesh"}, Translate: translate.Settings{RootNamespace: "root", ClusterDomain: "corp.example"}},
			[]string{"ambit-controller.mesh.svc", "ambit-controller.mesh.svc.corp.example", "istiod.root.svc", "istiod.root.svc.corp.example"},
			[]string{"mesh/ambit-ztunnel", "root/ztunnel"},
		},
		"given": {
			Config{Kubernetes: &Kubernetes{Namespace: "mesh"}, ServerNames: []string{"a"}, NodeAccounts: []string{"b/c"}}, []string{"a"}, []string{"b/c"},
		},
	} {
		got := c.cfg.Defaults()
		for _, name := range c.names {
			if !slices.Contains(got.ServerNames, name) {
				t.Errorf("%s: no %s among %v", what, name, got.ServerNames)
			}
		}
		if !slices.Equal(got.NodeAccounts, c.accounts) {
			t.Errorf("%s: accounts %v, want %v", what, got.NodeAccounts, c.accounts)
		}
	}
}
