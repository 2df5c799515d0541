package agent

import (
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ambit-mesh/ambit/agent/api"
	"github.com/ambit-mesh/ambit/agent/api/apitest"
	"github.com/ambit-mesh/ambit/agent/cni"
	"golang.org/x/sys/unix"
)

func TestThePodsWayThroughTheMesh(t *testing.T) {
	before := apitest.OpenFds(t)
	w := newWorld(t)
	h := w.sandbox("10.77.0.2/24")
	own := w.settings(h)
	w.start()

	// The pod's object comes without an address, then CNI ADD.
	w.pod("shop", "web", "", "")
	if r := w.ask(cni.Add, "shop", "web", h); !r.OK || !r.Enrolled {
		t.Fatalf("ADD: %+v", r)
	}
	if got := w.settings(h); got != "1 15001,15006,15008,15053" {
		t.Errorf("settings %q", got)
	}
	w.awaitNote("web", "pending")
	if text, err := os.ReadFile(filepath.Join(w.cfg.CNIConfDir, "10-net.conflist")); err != nil || !strings.Contains(string(text), cni.Type) {
		t.Errorf("plugin not chained: %s, %v", text, err)
	}
	w.pod("shop", "web", "", "{ip: 10.77.0.2}")

	z := w.connect(nil)
	if z.pod.GetName() != "web" || z.pod.GetServiceAccount() != "web" || len(z.fds) != len(kinds) || !z.pod.GetDns() {
		t.Fatalf("the ztunnel got %v with %d listeners", z.pod, len(z.fds))
	}
	w.awaitNote("web", "enabled")
	if got := z.captured(h, "10.99.1.2:80"); got != "10.99.1.2:80" {
		t.Errorf("original destination %s", got)
	}
	z.say(&api.ToAgent{Message: &api.ToAgent_SocketRequest{SocketRequest: &api.SocketRequest{Uid: "uid-web", Kind: api.SocketKind_TCP4, Count: 16}}})
	if got := z.hear(); got != "sockets:16" {
		t.Errorf("got %s", got)
	}
	if r := w.ask(cni.Check, "shop", "web", h); !r.OK {
		t.Errorf("CHECK: %+v", r)
	}

	// Without an agent, everything goes on; the next one adopts it.
	w.stop()
	if got := z.captured(h, "10.99.1.3:81"); got != "10.99.1.3:81" {
		t.Errorf("original destination without an agent %s", got)
	}
	inMesh := w.settings(h)
	w.bind("web", h) // found by its address before the ztunnel is there
	w.start()
	w.await("refused the listeners that the ztunnel holds", func(s Status) bool { p := s.pod("web"); return p.Netns != 0 && p.Error != "" })
	if got := w.settings(h); got != inMesh || got == own {
		t.Errorf("settings %q while the ztunnel is away, before %q", got, inMesh)
	}
	if got := w.note("web"); got != "enabled" {
		t.Errorf("annotation %q while the ztunnel is away: peers come in plain text", got)
	}
	z.Close()
	z = w.connect(z)
	if strings.Join(z.said, " ") != "keep:uid-web" {
		t.Errorf("after a restart the ztunnel heard %v", z.said)
	}
	w.await("adopted", func(s Status) bool { return s.pod("web").Enrolled && s.pod("web").Acked })
	if w.note("web") != "enabled" {
		t.Errorf("annotation after a restart: %s", w.note("web"))
	}
	if got := z.captured(h, "10.99.1.4:82"); got != "10.99.1.4:82" {
		t.Errorf("original destination after a restart %s", got)
	}

	// The ztunnel dies: a connection waits, and the next ztunnel gets it.
	z.Close()
	z.fds.Close()
	var waiting net.Conn
	if err := h.Do(func() (err error) {
		waiting, err = net.DialTimeout("tcp4", "10.99.1.5:83", patience)
		return err
	}); err != nil {
		t.Fatalf("connect without a ztunnel: %v", err)
	}
	z = w.connect(nil)
	fd, _, err := unix.Accept4(z.fds[0], unix.SOCK_CLOEXEC)
	if err != nil {
		t.Errorf("the waiting connection is lost: %v", err)
	} else {
		unix.Close(fd)
	}
	waiting.Close()

	// It leaves the mesh, and joins again: found by its address this time.
	w.pod("shop", "web", ", labels: {istio.io/dataplane-mode: none}", "{ip: 10.77.0.2}")
	if got := z.hear(); got != "del:LEFT" {
		t.Errorf("the ztunnel heard %s", got)
	}
	w.await("left", func(s Status) bool { return !s.pod("web").Enrolled && s.pod("web").Reason == "NotSelected" })
	if got := w.settings(h); got != own {
		t.Errorf("settings %q, before %q", got, own)
	}
	w.awaitNote("web", "")
	w.pod("shop", "web", "", "{ip: 10.77.0.2}")
	if got := z.hear(); got != "add:web" {
		t.Errorf("the ztunnel heard %s", got)
	}
	w.awaitNote("web", "enabled")

	// CNI DEL ends it, whatever its object still says.
	if r := w.ask(cni.Del, "shop", "web", h); !r.OK {
		t.Errorf("DEL: %+v", r)
	}
	if got := z.hear(); got != "del:GONE" {
		t.Errorf("the ztunnel heard %s", got)
	}
	w.awaitNote("web", "")
	z.Close()
	w.stop()
	h.Close()
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	// The bind mount, and the 16 sockets that were handed out, live until the test ends.
	if after := apitest.OpenFds(t); after > before+16 {
		t.Errorf("%d descriptors open, %d before", after, before)
	}
}

func TestPodsThatMayNotStart(t *testing.T) {
	w := newWorld(t)
	w.cfg.CNITimeout = 300 * time.Millisecond
	h := w.sandbox("10.77.1.2/24")
	w.start()
	for name, c := range map[string]struct {
		namespace, pod, reason string
		ok                     bool
	}{
		"nobody knows the pod": {"shop", "stranger", "PodUnknown", false},
		"namespace unknown":    {"nowhere", "a", "NamespaceUnknown", false},
		"not in the mesh":      {"legacy", "b", "NotSelected", true},
		"excluded":             {"kube-system", "c", "NamespaceExcluded", true},
	} {
		if c.pod != "stranger" {
			w.pod(c.namespace, c.pod, "", "")
		}
		if r := w.ask(cni.Add, c.namespace, c.pod, h); r.OK != c.ok || r.Reason != c.reason || r.Enrolled {
			t.Errorf("%s: %+v", name, r)
		}
	}
	// An application that has one of our ports.
	var squatter net.Listener
	if err := h.Do(func() (err error) { squatter, err = net.Listen("tcp4", "0.0.0.0:15006"); return err }); err != nil {
		t.Fatal(err)
	}
	w.pod("shop", "squat", "", "")
	if r := w.ask(cni.Add, "shop", "squat", h); r.OK || !strings.Contains(r.Detail, "15006") {
		t.Errorf("a port in use: %+v", r)
	}
	if s := w.await("the pod is known", func(s Status) bool { return s.pod("squat").Error != "" }); s.pod("squat").Enrolled {
		t.Errorf("enrolled without its listeners: %+v", s.pod("squat"))
	}
	squatter.Close()
	w.await("enrolled once the port is free", func(s Status) bool { return s.pod("squat").Enrolled })
}

func TestTwoPodsOfOneAddress(t *testing.T) {
	w := newWorld(t)
	first, second := w.sandbox("10.77.2.2/24"), w.sandbox("10.77.2.2/24")
	w.start()
	w.pod("shop", "one", "", "")
	w.pod("shop", "two", "", "")
	if r := w.ask(cni.Add, "shop", "one", first); !r.OK {
		t.Errorf("the first: %+v", r)
	}
	if r := w.ask(cni.Add, "shop", "two", second); r.OK || !strings.Contains(r.Detail, "another enrolled pod") {
		t.Errorf("the second: %+v", r)
	}
	if s := w.await("both known", func(s Status) bool { return s.pod("two").Error != "" }); !s.pod("one").Enrolled || s.pod("one").Error != "" {
		t.Errorf("the first suffers: %+v", s.pod("one"))
	}
}

func TestUninstallLeavesNothing(t *testing.T) {
	w := newWorld(t)
	h := w.sandbox("10.77.3.2/24")
	w.bind("web", h)
	own := w.settings(h)
	w.pod("shop", "web", "", "{ip: 10.77.3.2}")
	w.start()
	w.await("found by its address", func(s Status) bool { return s.pod("web").Enrolled })
	w.awaitNote("web", "pending")
	w.stop()
	if got := w.settings(h); got == own {
		t.Errorf("settings %q were given back by a mere stop", got)
	}
	for range 2 { // the second finds nothing, and that is no error
		if err := Uninstall(t.Context(), w.cfg); err != nil {
			t.Fatal(err)
		}
	}
	if got := w.settings(h); got != own {
		t.Errorf("settings %q, before %q", got, own)
	}
	if got := w.note("web"); got != "" {
		t.Errorf("annotation %s", got)
	}
	for _, path := range []string{w.cfg.PinDir, w.cfg.CNISocket, w.cfg.HandoffSocket, w.cfg.StatusSocket, filepath.Join(w.cfg.StateDir, "settings")} {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there: %v", path, err)
		}
	}
	if text, err := os.ReadFile(filepath.Join(w.cfg.CNIConfDir, "10-net.conflist")); err != nil || strings.Contains(string(text), cni.Type) {
		t.Errorf("plugin still chained: %s, %v", text, err)
	}
}

// With neither, nothing gets past the mesh; the next agent and ztunnel go on where the others ended.
func TestAgentAndZtunnelBothDie(t *testing.T) {
	w := newWorld(t)
	h := w.sandbox("10.77.4.2/24")
	w.bind("web", h)
	w.pod("shop", "web", "", "{ip: 10.77.4.2}")
	w.start()
	z := w.connect(nil)
	w.awaitNote("web", "enabled")
	w.stop()
	z.Close()
	z.fds.Close()
	dial := func() error {
		return h.Do(func() error {
			c, err := net.DialTimeout("tcp4", "10.99.1.2:80", 300*time.Millisecond)
			if err == nil {
				c.Close()
			}
			return err
		})
	}
	// sk_lookup's drop is answered with a reset (Linux 6.18); all that counts is that nothing gets through.
	if err := dial(); err == nil {
		t.Error("with neither, a connection goes past the mesh")
	}
	w.start()
	w.await("adopted", func(s Status) bool { return s.pod("web").Enrolled })
	z = w.connect(nil)
	if got := z.captured(h, "10.99.1.3:81"); got != "10.99.1.3:81" {
		t.Errorf("original destination %s", got)
	}
	// And what goes while nobody looks is cleared away: the pod leaves the mesh without an agent.
	w.stop()
	w.pod("shop", "web", ", labels: {istio.io/dataplane-mode: none}", "{ip: 10.77.4.2}")
	w.start()
	held := z
	z.Close()
	z = w.connect(held)
	if got := strings.Join(z.said, " "); got != "keep:uid-web del:LEFT" && got != "del:GONE" {
		t.Errorf("the ztunnel heard %q, want the pod to leave", got)
	}
	w.await("left", func(s Status) bool { return !s.pod("web").Enrolled && s.pod("web").Reason == "NotSelected" })
	w.awaitNote("web", "")
	if got := w.settings(h); strings.Contains(got, "15001") {
		t.Errorf("settings %q stay", got)
	}
}

func TestASecondAgentIsRefused(t *testing.T) {
	w := newWorld(t)
	unlock, err := prepare(&w.cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	if _, err := lockState(w.cfg.StateDir, time.Now()); err == nil || !strings.Contains(err.Error(), "another agent") {
		t.Errorf("got %v", err)
	}
}

func TestConfigurationThatMakesNoSense(t *testing.T) {
	good := Defaults()
	good.Node, good.Manifests = "n", "/m"
	if err := good.check(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Config){
		"no node":       func(c *Config) { c.Node = "" },
		"no source":     func(c *Config) { c.Manifests = "" },
		"two sources":   func(c *Config) { c.Kubernetes = true },
		"root ztunnel":  func(c *Config) { c.ZtunnelUID = 0 },
		"relative path": func(c *Config) { c.PinDir = "x" },
		"no limit":      func(c *Config) { c.Absence = 0 },
		"debug to all":  func(c *Config) { c.Debug = ":1" },
		"no CNI socket": func(c *Config) { c.CNISocket, c.CNIConfDir = "", "/d" },
	} {
		bad := good
		change(&bad)
		if err := bad.check(); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}
