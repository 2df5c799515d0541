package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ambit-mesh/ambit/agent/api"
	"github.com/ambit-mesh/ambit/agent/cni"
	"github.com/ambit-mesh/ambit/agent/netns"
	"github.com/ambit-mesh/ambit/test/need"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// patience bounds what must happen; nothing waits for it when all is well.
const patience = 20 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a node: a folder of manifests, a bpffs, a folder of namespaces, and an agent that comes and goes.
type world struct {
	t      *testing.T
	cfg    Config
	cancel context.CancelFunc
	done   chan error
}

func newWorld(t *testing.T) *world {
	t.Helper()
	need.Root(t, "loads eBPF programs and makes network namespaces")
	dir := t.TempDir()
	sub := func(name string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	bpffs := sub("bpf")
	if err := unix.Mount("bpf", bpffs, "bpf", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(bpffs, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	cfg := Defaults()
	cfg.Node, cfg.Manifests, cfg.PinDir, cfg.StateDir = "n1", sub("manifests"), filepath.Join(bpffs, "n1"), sub("state")
	cfg.NetnsDir, cfg.ProcDir = sub("netns"), sub("noproc") // other namespaces of this machine are none of ours
	cfg.HandoffSocket, cfg.CNISocket, cfg.StatusSocket = filepath.Join(dir, "h", "h.sock"), filepath.Join(dir, "cni.sock"), filepath.Join(dir, "status.sock")
	cfg.CNIConfDir, cfg.HTTP, cfg.ZtunnelUID, cfg.CNITimeout = sub("net.d"), "", 0, 2*time.Second
	cfg.Log = slog.New(slog.NewTextHandler(testWriter{t}, nil))
	w := &world{t: t, cfg: cfg}
	w.write("../net.d/10-net.conflist", `{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"bridge"}]}`)
	w.write("ns.yaml", namespaceManifest("shop", "ambient")+"---\n"+namespaceManifest("legacy", ""))
	return w
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

func namespaceManifest(name, mode string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Namespace\nmetadata: {name: %s, labels: {istio.io/dataplane-mode: %q}}\n", name, mode)
}

func (w *world) write(name, text string) {
	w.t.Helper()
	path := filepath.Join(w.cfg.Manifests, name)
	if err := os.WriteFile(path+".part", []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Rename(path+".part", path); err != nil {
		w.t.Fatal(err)
	}
}

// pod writes a pod's manifest; meta and ips as YAML.
func (w *world) pod(namespace, name, meta, ips string) {
	w.write(namespace+"-"+name+".yaml", fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {namespace: %s, name: %s, uid: uid-%s%s}
spec: {nodeName: n1, serviceAccountName: web, containers: [{name: c}]}
status: {phase: Running, podIPs: [%s]}
`, namespace, name, name, meta, ips))
}

func (w *world) start() {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	w.cancel, w.done = cancel, make(chan error, 1)
	go func() { w.done <- run(ctx, w.cfg) }()
	w.t.Cleanup(w.stop)
	w.await("ready", func(s Status) bool { return s.Ready })
}

func (w *world) stop() {
	w.t.Helper()
	if w.cancel == nil {
		return
	}
	w.cancel()
	w.cancel = nil
	if err := <-w.done; err != nil {
		w.t.Errorf("agent: %v", err)
	}
}

func (w *world) status() (Status, error) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", w.cfg.StatusSocket)
	}}}
	answer, err := client.Get("http://agent/status")
	if err != nil {
		return Status{}, err
	}
	defer answer.Body.Close()
	var s Status
	return s, json.NewDecoder(answer.Body).Decode(&s)
}

// await asks for the status until it is as wanted; a question takes the agent's loop a moment, so this does not spin.
func (w *world) await(what string, ok func(Status) bool) Status {
	w.t.Helper()
	limit := time.Now().Add(patience)
	for {
		s, err := w.status()
		if err == nil && ok(s) {
			return s
		}
		select {
		case err := <-w.done:
			w.done <- err
			w.t.Fatalf("the agent ended: %v", err)
		default:
		}
		if time.Now().After(limit) {
			w.t.Fatalf("never: %s; last %+v, %v", what, s, err)
		}
	}
}

func (s Status) pod(name string) PodStatus {
	for _, p := range s.Pods {
		if p.Name == name {
			return p
		}
	}
	return PodStatus{}
}

// note is what the agent wrote about a pod.
func (w *world) note(name string) string {
	text, err := os.ReadFile(filepath.Join(w.cfg.Manifests, "status", "pods", "shop_"+name+".json"))
	if errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	var note struct{ Annotations map[string]string }
	if err := errors.Join(err, json.Unmarshal(text, &note)); err != nil {
		w.t.Fatal(err)
	}
	return note.Annotations["ambient.istio.io/redirection"]
}

func (w *world) awaitNote(name, want string) {
	w.t.Helper()
	w.await("annotation "+want, func(Status) bool { return w.note(name) == want })
}

// sandbox is a pod's namespace with an address and a default route.
func (w *world) sandbox(address string) *netns.Handle {
	w.t.Helper()
	h, err := netns.New()
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { h.Close() })
	gateway := netip.MustParsePrefix(address).Addr().Prev().String()
	w.inside(h, "ip", "link", "set", "lo", "up")
	w.inside(h, "ip", "link", "add", "eth0", "type", "veth", "peer", "name", "far")
	w.inside(h, "ip", "addr", "add", address, "dev", "eth0")
	w.inside(h, "ip", "link", "set", "eth0", "up")
	w.inside(h, "ip", "link", "set", "far", "up")
	w.inside(h, "ip", "route", "add", "default", "via", gateway)
	return h
}

func (w *world) inside(h *netns.Handle, argv ...string) string {
	w.t.Helper()
	var out []byte
	if err := h.Do(func() (err error) {
		out, err = exec.Command(argv[0], argv[1:]...).CombinedOutput()
		return err
	}); err != nil {
		w.t.Fatalf("%v: %v: %s", argv, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (w *world) settings(h *netns.Handle) string {
	return strings.Join(strings.Fields(w.inside(h, "cat", "/proc/sys/net/ipv4/tcp_tw_reuse", "/proc/sys/net/ipv4/ip_local_reserved_ports")), " ")
}

func (w *world) ask(command, namespace, pod string, h *netns.Handle) cni.Response {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	r := cni.Request{Command: command, Container: "c-" + pod, Interface: "eth0", Namespace: namespace, Pod: pod, UID: "uid-" + pod}
	answer, err := cni.Ask(ctx, w.cfg.CNISocket, r, h.Fd())
	if err != nil {
		w.t.Fatal(err)
	}
	return answer
}

// ztunnel is the other end of the hand-off.
type ztunnel struct {
	*api.Conn
	t    *testing.T
	pod  *api.Pod
	fds  api.Fds
	said []string
}

// connect says hello, returns what was held, and takes the snapshot.
func (w *world) connect(held *ztunnel) *ztunnel {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	c, err := api.Dial(ctx, w.cfg.HandoffSocket)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close() })
	z := &ztunnel{Conn: c, t: w.t}
	z.say(&api.ToAgent{Message: &api.ToAgent_Hello{Hello: &api.Hello{MinVersion: 1, Version: 1, Instance: "z"}}})
	z.hear()
	if held != nil {
		z.pod, z.fds = held.pod, held.fds
		z.say(&api.ToAgent{Message: &api.ToAgent_ReturnPod{ReturnPod: &api.ReturnPod{Pod: held.pod, Kinds: kinds}}}, held.fds...)
	}
	z.say(&api.ToAgent{Message: &api.ToAgent_ReturnDone{ReturnDone: &api.ReturnDone{}}})
	for z.hear() != "snapshot" {
	}
	return z
}

func (z *ztunnel) say(m *api.ToAgent, fds ...int) {
	z.t.Helper()
	if _, err := z.Send(m, fds...); err != nil {
		z.t.Fatal(err)
	}
}

// hear acknowledges the next message and sums it up.
func (z *ztunnel) hear() string {
	z.t.Helper()
	if err := z.SetReadDeadline(time.Now().Add(patience)); err != nil {
		z.t.Fatal(err)
	}
	var m api.ToZtunnel
	fds, err := z.Recv(&m)
	if err != nil {
		z.t.Fatal(err)
	}
	word := ""
	switch v := m.GetMessage().(type) {
	case *api.ToZtunnel_Welcome:
		return "welcome"
	case *api.ToZtunnel_SnapshotSent:
		return "snapshot"
	case *api.ToZtunnel_Sockets:
		z.t.Cleanup(func() { fds.Close() })
		return fmt.Sprintf("sockets:%d", len(fds))
	case *api.ToZtunnel_AddPod:
		z.fds.Close()
		z.pod, z.fds = v.AddPod.GetPod(), fds
		word = "add:" + z.pod.GetName()
	case *api.ToZtunnel_KeepPod:
		word = "keep:" + v.KeepPod.GetUid()
	case *api.ToZtunnel_DelPod:
		z.fds.Close()
		z.fds = nil
		word = "del:" + v.DelPod.GetReason().String()
	default:
		z.t.Fatalf("got %v", &m)
	}
	z.said = append(z.said, word)
	z.say(&api.ToAgent{Message: &api.ToAgent_Ack{Ack: &api.Ack{Of: m.GetSeq()}}})
	return word
}

// captured connects from inside the pod and accepts as the ztunnel; it answers what accept's getsockname says.
func (z *ztunnel) captured(h *netns.Handle, destination string) string {
	z.t.Helper()
	var client net.Conn
	if err := h.Do(func() (err error) {
		client, err = net.DialTimeout("tcp4", destination, patience)
		return err
	}); err != nil {
		z.t.Fatalf("connect to %s: %v", destination, err)
	}
	defer client.Close()
	poll := []unix.PollFd{{Fd: int32(z.fds[0]), Events: unix.POLLIN}}
	if n, err := unix.Poll(poll, int(patience.Milliseconds())); n != 1 {
		z.t.Fatalf("nothing to accept: %v", err)
	}
	fd, _, err := unix.Accept4(z.fds[0], unix.SOCK_CLOEXEC)
	if err != nil {
		z.t.Fatal(err)
	}
	defer unix.Close(fd)
	name, err := unix.Getsockname(fd)
	if err != nil {
		z.t.Fatal(err)
	}
	six, ok := name.(*unix.SockaddrInet6)
	if !ok {
		z.t.Fatalf("accepted at %v", name)
	}
	return netip.AddrPortFrom(netip.AddrFrom16(six.Addr).Unmap(), uint16(six.Port)).String()
}

// bind gives a namespace a name where the agent looks.
func (w *world) bind(name string, h *netns.Handle) {
	w.t.Helper()
	path := filepath.Join(w.cfg.NetnsDir, name)
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		w.t.Fatal(err)
	}
	if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", h.Fd()), path, "", unix.MS_BIND, ""); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { unix.Unmount(path, unix.MNT_DETACH) })
}
