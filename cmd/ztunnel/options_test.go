package main

import (
	"bytes"
	"io"
	"log/slog"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/ambit-mesh/ambit/ztunnel"
)

// configure runs the command line up to the configuration.
func configure(t *testing.T, env map[string]string, args ...string) (ztunnel.Config, error) {
	t.Helper()
	var o *options
	getenv := func(name string) string { return env[name] }
	cmd := command(getenv)
	o = defaults(getenv)
	cmd.ResetFlags()
	o.register(cmd.Flags())
	if err := cmd.ParseFlags(args); err != nil {
		t.Fatal(err)
	}
	var environ []string
	for k, v := range env {
		environ = append(environ, k+"="+v)
	}
	return o.config(environ, io.Discard)
}

func TestDefaults(t *testing.T) {
	cfg, err := configure(t, nil)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.XDS.Address != defaultAddress || cfg.CA.Address != defaultAddress || cfg.XDS.RootFile != defaultRoot || cfg.CA.RootFile != defaultRoot ||
		cfg.XDS.TokenFile != defaultToken || cfg.ClusterID != "Kubernetes" || cfg.CertTTL != 24*time.Hour || !cfg.RequireUnprivileged ||
		cfg.DrainTimeout != 5*time.Second || cfg.AccessLogJSON || cfg.AccessLog == nil {
		t.Errorf("%+v", cfg)
	}
}

func TestEnvironmentAndFlags(t *testing.T) {
	env := map[string]string{
		"NODE_NAME": "n1", "XDS_ADDRESS": "https://istiod.istio-system.svc:15012/", "CLUSTER_ID": "a", "ISTIO_META_CLUSTER_ID": "b",
		"SECRET_TTL": "10m", "LOG_FORMAT": "json", "AMBIT_LOG_LEVEL": "debug", "XDS_HEADER_X-Tenant": "t=1", "INSTANCE_IP": "10.0.0.9",
		"TERMINATION_GRACE_PERIOD_SECONDS": "30", "CA_ROOT_CA": "/ca.pem",
	}
	cfg, err := configure(t, env, "--node=n2", "--mesh-ranges=10.0.0.1/8,fd00::/64", "--dns-servers=10.96.0.10,[fd00::a]:5353", "--access-log=false")
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Node != "n2" {
		t.Errorf("a flag must win: node %q", cfg.Node)
	}
	if cfg.XDS.Address != "istiod.istio-system.svc:15012" || cfg.CA.Address != cfg.XDS.Address {
		t.Errorf("addresses %q and %q", cfg.XDS.Address, cfg.CA.Address)
	}
	if cfg.CA.RootFile != "/ca.pem" || cfg.XDS.RootFile != defaultRoot {
		t.Errorf("roots %q and %q", cfg.CA.RootFile, cfg.XDS.RootFile)
	}
	if cfg.ClusterID != "b" || cfg.CertTTL != 10*time.Minute || !cfg.AccessLogJSON || cfg.Level.Level() != slog.LevelDebug || cfg.AccessLog != nil ||
		cfg.XDS.Headers["x-tenant"] != "t=1" || len(cfg.CA.Headers) != 0 || cfg.IP != netip.MustParseAddr("10.0.0.9") || cfg.DrainTimeout != 25*time.Second {
		t.Errorf("%+v", cfg)
	}
	if len(cfg.MeshRanges) != 2 || cfg.MeshRanges[0].String() != "10.0.0.0/8" {
		t.Errorf("ranges %v", cfg.MeshRanges)
	}
	if len(cfg.DNSServers) != 2 || cfg.DNSServers[0].String() != "10.96.0.10:53" || cfg.DNSServers[1].Port() != 5353 {
		t.Errorf("nameservers %v", cfg.DNSServers)
	}
}

func TestBadSettingsAreNamed(t *testing.T) {
	for arg, want := range map[string]string{
		"--xds-address=http://plain:1": "only https",
		"--ca-address=nowhere":         "missing port",
		"--mesh-ranges=10.0.0.0":       "10.0.0.0",
		"--dns-servers=example":        "nameserver",
		"--log-level=loud":             "--log-level",
		"--log-format=xml":             "--log-format",
		"--ip=1.2.3":                   "1.2.3",
	} {
		if _, err := configure(t, nil, arg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", arg, err, want)
		}
	}
}

func TestBadEnvironmentIsNamed(t *testing.T) {
	for name, value := range map[string]string{
		"SECRET_TTL": "1d", "CONNECTION_TERMINATION_DEADLINE": "30", "TERMINATION_GRACE_PERIOD_SECONDS": "soon",
	} {
		if _, err := configure(t, map[string]string{name: value}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s=%s: %v", name, value, err)
		}
	}
	if _, err := configure(t, map[string]string{"TERMINATION_GRACE_PERIOD_SECONDS": "0"}); err != nil {
		t.Error(err)
	}
}

func TestDrainTimeout(t *testing.T) {
	for _, tc := range []struct {
		explicit, grace string
		want            time.Duration
	}{
		{"", "", 5 * time.Second},
		{"7s", "60", 7 * time.Second},
		{"", "30", 25 * time.Second},
		{"", "10", 9 * time.Second},
		{"", "1", time.Second},
		{"", "soon", 5 * time.Second},
	} {
		if got := drainTimeout(tc.explicit, tc.grace); got != tc.want {
			t.Errorf("%q, %q: %v, want %v", tc.explicit, tc.grace, got, tc.want)
		}
	}
}

// --help names every setting, and every environment variable that is read.
func TestHelp(t *testing.T) {
	var read []string
	cmd := command(func(name string) string { read = append(read, name); return "" })
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetArgs([]string{"--help"})
	if err := cmd.Execute(); err != nil {
		t.Fatal(err)
	}
	for _, name := range read {
		if !strings.Contains(out.String(), name) {
			t.Errorf("help does not name %s", name)
		}
	}
}

// What the ztunnel says it is compatible with is what the controller's API definitions are of.
func TestIstioVersion(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Version}}", "istio.io/api").Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := string(out); !strings.HasPrefix(got, "v"+istioVersion+".") {
		t.Errorf("istio.io/api is %s and we say %s", strings.TrimSpace(got), istioVersion)
	}
}
