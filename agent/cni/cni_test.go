package cni

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ambit-mesh/ambit/agent/api/apitest"
	"github.com/ambit-mesh/ambit/agent/netns"
	"github.com/ambit-mesh/ambit/agent/netns/netnstest"
	"github.com/ambit-mesh/ambit/test/need"
	"github.com/containernetworking/cni/libcni"
	"go.uber.org/goleak"
)

const patience = 20 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve runs an agent's end.
func serve(t *testing.T, path string, timeout time.Duration, handle Handler) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	s := &Server{Path: path, Handle: handle, Timeout: timeout, Log: slog.New(slog.DiscardHandler)}
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("server: %v", err)
		}
	})
}

// The real binary, driven by the library that runtimes use, behind a plugin of another kind.
func TestThePluginInAChain(t *testing.T) {
	h, _ := netnstest.New(t)
	bin := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", filepath.Join(bin, Type), "github.com/ambit-mesh/ambit/cmd/cni").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	network := filepath.Join(bin, "network")
	if err := os.WriteFile(network, []byte("#!/bin/sh\ncat >/dev/null\n[ $CNI_COMMAND = ADD ] && echo '"+
		`{"cniVersion":"1.0.0","ips":[{"address":"10.1.0.9/24"}]}`+"'\nexit 0\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "cni.sock")
	got := make(chan Request, 10)
	answers := map[string]Response{
		"in":      {OK: true, Enrolled: true, Reason: "Selected"},
		"out":     {OK: true, Reason: "NotSelected"},
		"refused": {Reason: "ForeignHooks", Detail: "set socketLB.hostNamespaceOnly=true"},
	}
	serve(t, socket, patience, func(_ context.Context, r Request, ns *netns.Handle) Response {
		if ns == nil || ns.ID() != h.ID() {
			t.Errorf("%s: another namespace came", r.Command)
		}
		if ns != nil {
			ns.Close()
		}
		got <- r
		return answers[r.Pod]
	})
	entry, err := Entry(socket, []string{"kube-system"}, 2*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	chain := func(entry json.RawMessage) *libcni.NetworkConfigList {
		text, _, err := Chain([]byte(`{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"network"}]}`), entry)
		if err != nil {
			t.Fatal(err)
		}
		l, err := libcni.ConfListFromBytes(text)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	path := "/proc/" + "self/fd/" + itoa(h.Fd())
	runtimeConf := func(namespace, pod string) *libcni.RuntimeConf {
		return &libcni.RuntimeConf{ContainerID: "c-" + pod, NetNS: hostPath(path), IfName: "eth0", Args: [][2]string{
			{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", namespace}, {"K8S_POD_NAME", pod}, {"K8S_POD_UID", "u-" + pod}, {"OTHER", "x"},
		}}
	}
	runtime := libcni.NewCNIConfigWithCacheDir([]string{bin}, t.TempDir(), nil)
	with := chain(entry)
	for pod, answer := range answers {
		_, err := runtime.AddNetworkList(t.Context(), with, runtimeConf("shop", pod))
		r := <-got
		if r.Command != Add || r.Namespace != "shop" || r.Pod != pod || r.UID != "u-"+pod || len(r.IPs) != 1 || r.IPs[0] != "10.1.0.9" {
			t.Errorf("%s: the agent was asked %+v", pod, r)
		}
		if answer.OK != (err == nil) || err != nil && !(strings.Contains(err.Error(), answer.Reason) && strings.Contains(err.Error(), answer.Detail)) {
			t.Errorf("%s: %v", pod, err)
		}
		if !answer.OK {
			continue
		}
		if err := runtime.CheckNetworkList(t.Context(), with, runtimeConf("shop", pod)); err != nil {
			t.Errorf("%s: check: %v", pod, err)
		}
		if r := <-got; r.Command != Check {
			t.Errorf("asked %+v", r)
		}
		if err := runtime.DelNetworkList(t.Context(), with, runtimeConf("shop", pod)); err != nil {
			t.Errorf("%s: delete: %v", pod, err)
		}
		if r := <-got; r.Command != Del {
			t.Errorf("asked %+v", r)
		}
	}
	if err := runtime.DelNetworkList(t.Context(), with, runtimeConf("shop", "refused")); err != nil {
		t.Error(err)
	}
	<-got
	if _, err := runtime.AddNetworkList(t.Context(), with, runtimeConf("kube-system", "dns")); err != nil {
		t.Errorf("an excluded namespace waits: %v", err)
	}
	// No agent: pods wait and fail, say why, and still can go.
	nobody, err := Entry(filepath.Join(t.TempDir(), "none.sock"), []string{"kube-system"}, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	without := chain(nobody)
	if _, err := runtime.AddNetworkList(t.Context(), without, runtimeConf("shop", "in")); err == nil || !strings.Contains(err.Error(), "must not start") {
		t.Errorf("without an agent: %v", err)
	}
	if err := runtime.DelNetworkList(t.Context(), without, runtimeConf("shop", "in")); err != nil {
		t.Errorf("without an agent a pod cannot go: %v", err)
	}
	if _, err := runtime.AddNetworkList(t.Context(), without, runtimeConf("kube-system", "dns")); err != nil {
		t.Errorf("without an agent, an excluded namespace: %v", err)
	}
}

func hostPath(p string) string { return strings.Replace(p, "self", itoa(os.Getpid()), 1) }

func itoa(n int) string { b, _ := json.Marshal(n); return string(b) }

func TestServerRefusesNonsenseAndLeaksNothing(t *testing.T) {
	need.Root(t, "makes network namespaces and a root-only socket")
	socket := filepath.Join(t.TempDir(), "cni.sock")
	serve(t, socket, patience, func(context.Context, Request, *netns.Handle) Response {
		t.Error("nonsense reached the handler")
		return Response{OK: true}
	})
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := Ask(ctx, socket, Request{}, -1); err != nil {
		t.Fatal(err)
	}
	before := apitest.OpenFds(t)
	for name, c := range map[string]struct {
		r  Request
		fd int
	}{
		"nothing":      {Request{}, -1},
		"no namespace": {Request{Command: Add, Namespace: "a", Pod: "b"}, -1},
		"a file":       {Request{Command: Add, Namespace: "a", Pod: "b"}, int(f.Fd())},
		"no command":   {Request{Namespace: "a", Pod: "b"}, int(f.Fd())},
	} {
		answer, err := Ask(ctx, socket, c.r, c.fd)
		if err != nil || answer.OK || answer.Detail == "" {
			t.Errorf("%s: %+v, %v", name, answer, err)
		}
	}
	if st, err := os.Stat(socket); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("socket %v, %v", st, err)
	}
	if after := apitest.OpenFds(t); after > before+1 { // one connection may not be closed yet
		t.Errorf("%d descriptors open, %d before", after, before)
	}
}

func TestConfIsStrict(t *testing.T) {
	good := `{"cniVersion":"1.0.0","name":"n","type":"ambit-cni","socket":"/run/x.sock","excludeNamespaces":["kube-system"],
		"timeoutSeconds":5,"cni.dev/attachments":[],"runtimeConfig":{},"prevResult":{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.1/24"}]}}`
	conf, err := ParseConf([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	if conf.Socket != "/run/x.sock" || conf.TimeoutSeconds != 5 || len(conf.ExcludeNamespaces) != 1 || conf.PrevResult == nil || conf.CNIVersion != "1.0.0" {
		t.Errorf("%+v", conf)
	}
	for _, bad := range []string{
		``, `[]`, `{}`, `{"socket":"x"}`, `{"socket":"/x","timeoutSeconds":0}`, `{"socket":"/x","timeoutSeconds":999}`, `{"socket":"/x","sokket":1}`,
		`{"socket":"/x","excludeNamespaces":[""]}`, `{"socket":"/x","excludeNamespaces":"kube-system"}`, `{"socket":"/x","type":"bridge"}`,
		`{"socket":"/x","cniVersion":"1.0.0","prevResult":{"ips":7}}`,
	} {
		if conf, err := ParseConf([]byte(bad)); err == nil {
			t.Errorf("%s was read as %+v", bad, conf)
		}
	}
}

func FuzzParseConf(f *testing.F) {
	f.Add([]byte(`{"socket":"/x","cniVersion":"1.0.0","prevResult":{"ips":[]}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if conf, err := ParseConf(text); err == nil && (conf.Socket == "" || conf.TimeoutSeconds < 1) {
			t.Fatalf("%+v", conf)
		}
	})
}

func FuzzChain(f *testing.F) {
	f.Add([]byte(`{"name":"n","plugins":[{"type":"bridge"},{"type":"ambit-cni"}]}`))
	f.Add([]byte(`{"name":"n","type":"bridge"}`))
	entry, err := Entry("/run/x.sock", nil, time.Second)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		out, _, err := Chain(text, entry)
		if err != nil {
			return
		}
		if again, changed, err := Chain(out, entry); err != nil || changed {
			t.Fatalf("a second time %s, %v", again, err)
		}
		back, _, err := Unchain(out)
		if err != nil || strings.Contains(string(back), entryMark) {
			t.Fatalf("taken out: %s, %v", back, err)
		}
	})
}

const entryMark = `"socket": "/run/x.sock"`
