package arch_test

import (
	"slices"
	"strings"
	"testing"
)

// within reports whether a package is one of the given folders or below.
func within(path string, folders ...string) bool {
	return slices.ContainsFunc(folders, func(f string) bool { return path == f || strings.HasPrefix(path, f+"/") })
}

// TestReach: what a process can reach at all, through any chain of imports.
func TestReach(t *testing.T) {
	for _, rule := range []struct {
		who, except []string // folders
		never       []string // import path prefixes
		why         string
	}{
		{
			[]string{"ztunnel", "cmd/ztunnel"},
			nil,
			[]string{module + "bpf", "github.com/cilium/ebpf", "github.com/vishvananda/netlink", "k8s.io/client-go", module + "controller/translate", module + "controller/kube", module + "agent/datapath"},
			"the ztunnel has no privilege to use them with, and no business in the cluster",
		},
		{
			[]string{"controller", "cmd/controller"},
			nil,
			[]string{module + "bpf", "github.com/cilium/ebpf", "github.com/vishvananda/netlink", module + "agent/", module + "ztunnel/"},
			"the controller meets nodes only in protobufs",
		},
		{
			[]string{"agent/api", "controller/api"},
			nil,
			[]string{module + "ztunnel", module + "cmd", "k8s.io/client-go"},
			"anybody may import the borders",
		},
		{
			[]string{"agent/enroll", "agent/datapath/plan", "ztunnel/policy", "ztunnel/route"},
			nil,
			[]string{"net/http", "os/exec", "google.golang.org/grpc", "github.com/cilium/ebpf", "k8s.io/client-go"},
			"deciding is pure",
		},
		{
			[]string{"controller/strict", "controller/validate"},
			nil,
			[]string{"k8s.io/client-go", "google.golang.org/grpc", module + "controller/translate", module + "controller/xds"},
			"the command line checks manifests with them, far from any cluster",
		},
	} {
		for _, p := range packages(t) {
			if !within(p.path(), rule.who...) || within(p.path(), rule.except...) {
				continue
			}
			for _, dep := range p.Deps {
				for _, bad := range rule.never {
					if dep == strings.TrimSuffix(bad, "/") || strings.HasPrefix(dep, strings.TrimSuffix(bad, "/")+"/") {
						t.Errorf("%s reaches %s: %s", p.path(), dep, rule.why)
					}
				}
			}
		}
	}
}

// TestOnlyImporters: who may import something directly.
func TestOnlyImporters(t *testing.T) {
	for _, rule := range []struct {
		what string
		may  []string
		why  string
	}{
		{module + "bpf", []string{"agent/datapath", "bpf"}, "the loader is one package"},
		{"k8s.io/client-go", []string{"agent/source", "controller/kube", "cmd/ambit/check", "test/bench/controller/apiserver", "test/e2e"}, "the cluster comes in at one place a process"},
		{"github.com/vishvananda/netlink", []string{"agent/podnet", "agent/datapath", "test"}, "devices and addresses are asked for in one place; the loader attaches to devices"},
	} {
		for _, p := range packages(t) {
			for _, imp := range p.Imports {
				if (imp == rule.what || strings.HasPrefix(imp, rule.what+"/")) && !within(p.path(), rule.may...) {
					t.Errorf("%s imports %s: %s", p.path(), imp, rule.why)
				}
			}
		}
	}
}

// TestPure: packages that decide import no clock, lock, log, file or network code themselves.
func TestPure(t *testing.T) {
	pure := []string{"ztunnel/policy", "ztunnel/route", "agent/enroll", "agent/datapath/plan"}
	never := []string{"os", "log", "log/slog", "net", "net/http", "context", "time"}
	for _, p := range packages(t) {
		if !slices.Contains(pure, p.path()) {
			continue
		}
		for _, imp := range p.Imports {
			if slices.Contains(never, imp) {
				t.Errorf("%s imports %s: it decides, and asks nobody", p.path(), imp)
			}
		}
	}
}

// TestSiblings: the two directions share what they have in common by moving it down.
func TestSiblings(t *testing.T) {
	for _, p := range packages(t) {
		for a, b := range map[string]string{"ztunnel/inbound": "ztunnel/outbound", "ztunnel/outbound": "ztunnel/inbound"} {
			if p.path() == a && slices.Contains(p.Imports, module+b) {
				t.Errorf("%s imports %s", a, b)
			}
		}
	}
}
