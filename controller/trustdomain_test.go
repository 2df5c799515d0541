package controller

import "testing"

func TestTrustDomain(t *testing.T) {
	for name, tc := range map[string]struct{ given, mesh, want, from string }{
		"nothing":            {"", "", "cluster.local", fromDefault},
		"another field":      {"", "rootNamespace: r", "cluster.local", fromDefault},
		"mesh":               {"", "trustDomain: corp.example", "corp.example", fromMeshConfig},
		"its other spelling": {"", "trust_domain: corp.example", "corp.example", fromMeshConfig},
		"both":               {"ours", "trustDomain: corp.example", "ours", fromCommandLine},
		"given, bad mesh":    {"ours", "trustDomain: {", "ours", fromCommandLine},
		"bad mesh":           {"", "trustDomain: {", "", ""},
		"bad name":           {"", "trustDomain: A/B", "", ""},
		"error elsewhere":    {"", "trustDomain: corp.example\nrootNamespace: A/B", "", ""},
	} {
		got, from, err := trustDomain(tc.given, tc.mesh)
		if got != tc.want || from != tc.from || (err == nil) != (tc.want != "") {
			t.Errorf("%s: %q from %q, %v", name, got, from, err)
		}
	}
	if c := (Config{}).Defaults(); c.Translate.TrustDomain != "" {
		t.Errorf("the trust domain %q is taken before MeshConfig is asked", c.Translate.TrustDomain)
	}
}
