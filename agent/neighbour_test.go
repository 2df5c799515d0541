package agent

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ambit-mesh/ambit/agent/cni"
)

const istioAmbient = `{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"bridge"},{"type":"istio-cni","ambient_enabled":true}]}`

// Istio ambient has the node: pods of the same label start as Istio's, keep what it wrote on them, and join this mesh when it
// is gone. A pod that this mesh has does not leave it because another comes.
func TestAnotherMeshHasThePods(t *testing.T) {
	w := newWorld(t)
	conflist := filepath.Join(w.cfg.CNIConfDir, "10-net.conflist")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(conflist+".part", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(conflist+".part", conflist); err != nil {
			t.Fatal(err)
		}
	}
	plain, err := os.ReadFile(conflist)
	if err != nil {
		t.Fatal(err)
	}
	write(istioAmbient)
	// Istio's word on the pod, as it is in the cluster: on the pod itself.
	theirs := filepath.Join(w.cfg.Manifests, "status", "pods", "shop_web.json")
	if err := os.MkdirAll(filepath.Dir(theirs), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(theirs, []byte(`{"annotations":{"ambient.istio.io/redirection":"enabled"}}`), 0o644); err != nil {
		t.Fatal(err)
	}
	h := w.sandbox("10.77.8.2/24")
	w.pod("shop", "web", "", "{ip: 10.77.8.2}")
	w.start()
	if r := w.ask(cni.Add, "shop", "web", h); !r.OK || r.Enrolled || r.Reason != "OtherMesh" || !strings.Contains(r.Detail, "istio-cni") {
		t.Errorf("the other mesh's pod: %+v", r)
	}
	s := w.await("the pod is known", func(s Status) bool { return s.pod("web").Reason == "OtherMesh" })
	if p := s.pod("web"); p.Enrolled || p.Verdict != "outside" || len(s.OtherMeshes) != 1 {
		t.Errorf("%+v, other meshes %v", p, s.OtherMeshes)
	}
	if w.note("web") != "enabled" {
		t.Error("the other mesh's word on its pod is gone")
	}
	write(string(plain))
	w.bind("web", h)
	w.await("enrolled when the other mesh is gone", func(s Status) bool { return s.pod("web").Enrolled })

	write(istioAmbient)
	w.await("the other mesh is seen", func(s Status) bool { return len(s.OtherMeshes) == 1 })
	for _, when := range []string{"live", "after a restart"} {
		s := w.await("judged again", func(s Status) bool { return s.pod("web").Reason == "OtherMesh" })
		if p := s.pod("web"); !p.Enrolled && when == "live" || p.Verdict != "refused" {
			t.Errorf("%s: a pod of this mesh is given away: %+v", when, p)
		}
		if when == "live" {
			w.stop()
			w.start()
		}
	}
}

// A port that somebody has ends the agent before it changes anything.
func TestAPortThatIsTaken(t *testing.T) {
	w := newWorld(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	w.cfg.HTTP = l.Addr().String()
	if err := run(t.Context(), w.cfg); err == nil || !strings.Contains(err.Error(), "another program of this node has the agent's port") || !strings.Contains(err.Error(), w.cfg.HTTP) {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(w.cfg.PinDir); err == nil {
		t.Error("programs were attached")
	}
}

func TestTroublesOfTheNode(t *testing.T) {
	if list := (health{}).troubles(); len(list) != 0 {
		t.Errorf("all is well: %v", list)
	}
	sick := health{
		missing: []string{"a", "b"}, against: []string{"cil_x: set y"}, meshes: []string{"istio-cni"}, rewritten: "somebody rewrites", kubelet: "two of them", unserved: 3,
	}
	list := sick.troubles()
	for i, want := range []struct{ reason, part string }{
		{reasonNotReady, "a, b"},
		{reasonForeign, "set y"},
		{reasonOtherMesh, "istio-cni"},
		{reasonRewritten, "somebody"},
		{reasonKubelet, "agent.kubeletName"},
		{reasonNoZtunnel, "app=ambit-ztunnel"},
	} {
		if len(list) != 6 || list[i].reason != want.reason || !strings.Contains(list[i].message, want.part) {
			t.Fatalf("%d: %v, want %v", i, list, want)
		}
	}
}

// What passes by itself is not told, what lasts is told once, and again before the API server has forgotten it.
func TestVoice(t *testing.T) {
	var now health
	var told []string
	v := &voice{look: func() health { return now }, warn: func(reason, message string) { told = append(told, reason+" "+message) }}
	clock := time.Now()
	for i, step := range []struct {
		after time.Duration
		is    health
		want  int // told so far
	}{
		{0, health{missing: []string{"pods"}}, 0},
		{voiceAfter - 1, health{missing: []string{"pods"}}, 0},
		{1, health{missing: []string{"plugin"}}, 0}, // another
		{voiceAfter, health{missing: []string{"plugin"}}, 1},
		{voicePeriod, health{missing: []string{"plugin"}, unserved: 1}, 1},
		{voiceAfter, health{missing: []string{"plugin"}, unserved: 7}, 2}, // more pods are no news
		{voicePeriod, health{}, 2},
		{voicePeriod, health{unserved: 1}, 2}, // it came back, and must last again
		{voiceAfter, health{unserved: 1}, 3},
		{voiceAgain - 1, health{unserved: 1}, 3},
		{1, health{unserved: 1}, 4},
	} {
		clock, now = clock.Add(step.after), step.is
		if v.speak(clock); len(told) != step.want {
			t.Errorf("step %d: told %q, want %d", i, told, step.want)
		}
	}
}

// The last word of an agent without an API server: its own error stays the one that is said.
func TestLastWordWithoutAnAPIServer(t *testing.T) {
	w := newWorld(t)
	var said strings.Builder
	w.cfg.Log = slog.New(slog.NewTextHandler(&said, nil))
	w.cfg.ZtunnelUID, w.cfg.Manifests, w.cfg.Kubernetes, w.cfg.Kubeconfig = 1337, "", true, filepath.Join(t.TempDir(), "none")
	err := Run(context.Background(), w.cfg)
	if err == nil || !strings.Contains(err.Error(), "kubernetes configuration") || !strings.Contains(said.String(), "the node was not told") {
		t.Errorf("%v; said %s", err, said.String())
	}
}
