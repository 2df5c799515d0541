package agent

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/ambit-mesh/ambit/agent/datapath"
	"github.com/ambit-mesh/ambit/agent/enroll"
	"github.com/ambit-mesh/ambit/test/need"
	"github.com/prometheus/client_golang/prometheus"
)

var quiet = slog.New(slog.DiscardHandler)

// procfs is a /proc of the given processes by name; all are root's and in this network namespace when the test is.
func procfs(t *testing.T, names map[int]string) string {
	t.Helper()
	dir := t.TempDir()
	for pid, name := range names {
		proc := filepath.Join(dir, strconv.Itoa(pid))
		if err := os.MkdirAll(filepath.Join(proc, "ns"), 0o755); err != nil {
			t.Fatal(err)
		}
		stat := strconv.Itoa(pid) + " (" + name + ") S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 777 20"
		for file, text := range map[string]string{"comm": name + "\n", "stat": stat, "cgroup": "0::/\n"} {
			if err := os.WriteFile(filepath.Join(proc, file), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		for _, ns := range []string{"net", "pid"} {
			if err := os.Symlink("/proc/self/ns/"+ns, filepath.Join(proc, "ns", ns)); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

func TestKubeletIsIdentifiedOrGetsNothing(t *testing.T) {
	need.Root(t, "makes processes of root's up")
	dir := t.TempDir()
	file := filepath.Join(dir, "pid")
	if err := os.WriteFile(file, []byte("42\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	procs := map[int]string{42: "kubelet", 43: "other", 44: "twin", 45: "twin"}
	cases := map[string]struct {
		cfg  Config
		want int
		why  string
	}{
		"by pid":        {Config{KubeletPID: 42}, 42, ""},
		"by file":       {Config{KubeletFile: file}, 42, ""},
		"by name":       {Config{KubeletName: "kubelet"}, 42, ""},
		"two of a name": {Config{KubeletName: "twin"}, 0, "both called"},
		"none of it":    {Config{KubeletName: "absent"}, 0, "no process"},
		"no such pid":   {Config{KubeletPID: 99}, 0, "kubelet's process"},
		"no such file":  {Config{KubeletFile: file + "x"}, 0, "kubelet's pid"},
		"nobody":        {Config{}, 0, "not configured"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			c.cfg.ProcDir = procfs(t, procs)
			ctx, cancel := context.WithCancel(t.Context())
			var got datapath.Kubelet
			k := &kubeletWatch{cfg: &c.cfg, home: 5, log: quiet, set: func(k datapath.Kubelet) error { got = k; cancel(); return nil }}
			if err := k.run(ctx); err != nil {
				t.Fatal(err)
			}
			cancel()
			if got.PID != c.want || c.want != 0 && (got.Start != 777 || got.Netns != 5 || got.PIDNS == 0) || c.want == 0 && got != (datapath.Kubelet{}) {
				t.Errorf("the kernel was told %+v", got)
			}
			if said := *k.state.Load(); !strings.Contains(said, c.why) {
				t.Errorf("said %q, want %q", said, c.why)
			}
		})
	}
}

func TestAKubeletThatTheKernelCannotBeToldIsAnError(t *testing.T) {
	want := errors.New("no map")
	k := &kubeletWatch{cfg: &Config{}, log: quiet, set: func(datapath.Kubelet) error { return want }}
	if err := k.run(t.Context()); !errors.Is(err, want) {
		t.Errorf("got %v", err)
	}
}

func TestForeignPrograms(t *testing.T) {
	list := []datapath.Foreign{
		{Hook: "cgroup/connect4", ID: 7, Name: "cil_sock4_conne"},
		{Hook: "cgroup/connect4", ID: 9, Name: "calico_connect_", After: true},
		{Hook: "cgroup/bind4", ID: 8, Name: "harmless"},
	}
	w := &foreignWatch{log: quiet, list: func() ([]datapath.Foreign, error) { return list, nil }}
	w.look()
	if all, against := load(&w.all), load(&w.against); len(all) != 3 || len(against) != 2 ||
		!strings.Contains(strings.Join(against, "\n"), "socketLB.hostNamespaceOnly=true") || !strings.Contains(against[0], "bpfConnectTimeLoadBalancing: Disabled") ||
		!strings.Contains(against[0], "after ours") {
		t.Errorf("all %v, against %v", all, against)
	}
	w.list = func() ([]datapath.Foreign, error) { return nil, errors.New("no") }
	w.look()
	if len(load(&w.against)) != 2 {
		t.Error("what is not known counts as gone")
	}
	w.allow, w.list = true, func() ([]datapath.Foreign, error) { return list, nil }
	w.look()
	if len(load(&w.against)) != 0 {
		t.Errorf("allowed and still against: %v", load(&w.against))
	}
}

func TestPages(t *testing.T) {
	missing, hang := []string{"the node's pods"}, errors.New("does not turn")
	registry := prometheus.NewRegistry()
	m := newMetrics(registry)
	m.observe([]PodStatus{
		{Enrolled: true, Acked: true, Reason: string(enroll.Selected)},
		{Enrolled: true, Reason: string(enroll.Selected)},
		{Verdict: "refused", Reason: string(enroll.ForeignHooks)},
	}, 0)
	p := &pages{
		registry: registry, log: quiet, ready: func() []string { return missing }, stuck: func() error { return hang },
		status: func(context.Context) (Status, error) { return Status{Node: "n1"}, nil },
	}
	get := func(h http.Handler, path string) (int, string) {
		answer := httptest.NewRecorder()
		h.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, path, nil))
		return answer.Code, answer.Body.String()
	}
	if code, text := get(p.public(), "/readyz"); code != 503 || !strings.Contains(text, "the node's pods") {
		t.Errorf("readyz: %d %s", code, text)
	}
	if code, text := get(p.public(), "/healthz"); code != 503 || !strings.Contains(text, "does not turn") {
		t.Errorf("healthz: %d %s", code, text)
	}
	missing, hang = nil, nil
	for path, want := range map[string]string{
		"/readyz": "ready", "/healthz": "ok",
		"/metrics": `ambit_agent_pods{reason="ForeignHooks",state="refused"} 1`,
	} {
		if code, text := get(p.public(), path); code != 200 || !strings.Contains(text, want) {
			t.Errorf("%s: %d %s", path, code, text)
		}
	}
	if code, text := get(p.private(), "/status"); code != 200 || !strings.Contains(text, `"node": "n1"`) {
		t.Errorf("status: %d %s", code, text)
	}
	for _, path := range []string{"/status", "/debug/pprof/"} {
		if code, _ := get(p.public(), path); code != 404 {
			t.Errorf("%s is public: %d", path, code)
		}
	}
	if code, _ := get(p.private(), "/debug/pprof/cmdline"); code != 200 {
		t.Errorf("pprof: %d", code)
	}
}
