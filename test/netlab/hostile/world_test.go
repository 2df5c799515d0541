package hostile

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ambit-mesh/ambit/test/netlab"
	"github.com/ambit-mesh/ambit/test/netlab/labtest"
	"github.com/ambit-mesh/ambit/test/netlab/mesh"
)

const (
	inside   = "safe" // the enrolled namespace
	outside  = "wild" // the other one
	echoPort = 7000
	// trusted is the only identity that the guarded pod admits.
	trusted = "spiffe://cluster.local/ns/safe/sa/client"
)

// world is the lab under attack.
type world struct {
	lab  *netlab.Lab
	mesh *mesh.Mesh

	client, attacker            netlab.Pod                // n1, in the mesh
	stranger                    netlab.Pod                // n1, outside
	victim, neighbour, guarded  netlab.Pod                // n2, in the mesh, each with an echo server
	processes                   map[string]netlab.Process // the mesh's
	toVictim, toNeighbour, bare *bystander
}

// guard is the policy of the guarded pod.
const guard = `apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: guard, namespace: safe}
spec:
  selector: {matchLabels: {app: guarded}}
  action: ALLOW
  rules:
  - from:
    - source: {principals: ["cluster.local/ns/safe/sa/client"]}
`

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{lab: labtest.Up(t, "foe"), processes: map[string]netlab.Process{}}
	var err error
	w.mesh, err = mesh.Start(t.Context(), w.lab, mesh.Options{})
	must(t, err)
	must(t, w.lab.SetNamespace(inside, map[string]string{"istio.io/dataplane-mode": "ambient"}))
	for _, p := range []struct {
		to                    *netlab.Pod
		namespace, name, node string
	}{
		{&w.client, inside, "client", "n1"},
		{&w.attacker, inside, "attacker", "n1"},
		{&w.stranger, outside, "stranger", "n1"},
		{&w.victim, inside, "victim", "n2"},
		{&w.neighbour, inside, "neighbour", "n2"},
		{&w.guarded, inside, "guarded", "n2"},
	} {
		*p.to, err = w.lab.AddPod(t.Context(), netlab.PodSpec{
			Namespace: p.namespace, Name: p.name, Node: p.node, ServiceAccount: p.name, Labels: map[string]string{"app": p.name},
		})
		must(t, err)
	}
	must(t, w.lab.Apply("guard.yaml", []byte(guard)))
	for _, pod := range []netlab.Pod{w.victim, w.neighbour, w.guarded} {
		p, err := w.lab.Start(netlab.Spec{Name: pod.Name + "-echo", Pod: pod.Ref(), Argv: []string{
			"labprog", "echo", "--quiet", "--listen", fmt.Sprintf(":%d", echoPort),
		}})
		must(t, err)
		must(t, w.lab.WaitListening(t.Context(), p, echoPort, 5*time.Second))
	}
	for _, name := range []string{mesh.ZtunnelName("n1"), mesh.ZtunnelName("n2"), mesh.AgentName("n1"), mesh.AgentName("n2"), mesh.ControllerName} {
		p, err := w.lab.Process(name)
		must(t, err)
		w.processes[name] = p
	}
	w.allowed(t, w.client, w.guarded)
	w.denied(t, w.attacker, w.guarded)
	return w
}

// attack runs one attack and then wants everybody else to be well: bystanders undisturbed, new connections possible, the same
// processes alive, none of them ever larger by more than mostMiB.
func (w *world) attack(t *testing.T, name string, mostMiB int, run func(t *testing.T)) {
	t.Run(name, func(t *testing.T) {
		w.frugal(t, mostMiB, func() { run(t) })
		for _, b := range []*bystander{w.toVictim, w.toNeighbour, w.bare} {
			b.check(t)
		}
		w.allowed(t, w.client, w.victim)
		w.allowed(t, w.client, w.guarded)
		for name, p := range w.processes {
			if !p.Alive() {
				t.Fatalf("%s has died", name)
			}
		}
		for _, node := range []string{"n1", "n2"} {
			if n := w.metric(t, node, "ambit_ztunnel_panics", nil); n != 0 {
				t.Errorf("the ztunnel on %s counts %.0f panics", node, n)
			}
		}
	})
}

// metric sums a counter or gauge of a node's ztunnel.
func (w *world) metric(t *testing.T, node, name string, labels map[string]string) float64 {
	t.Helper()
	m, err := w.mesh.Metrics(t.Context(), node)
	must(t, err)
	return m.Sum(name, labels)
}

// counted runs do and waits until a counter of a node's ztunnel has risen by at least n.
func (w *world) counted(t *testing.T, node, name string, labels map[string]string, n float64, do func()) {
	t.Helper()
	before := w.metric(t, node, name, labels)
	do()
	w.poll(t, 5*time.Second, func() error {
		if got := w.metric(t, node, name, labels) - before; got < n {
			return fmt.Errorf("%s%v on %s rose by %.0f, want %.0f", name, labels, node, got, n)
		}
		return nil
	})
}

// logged waits until the log of a process, from a mark on, has one line with all the words.
func (w *world) logged(t *testing.T, process string, mark int, words ...string) {
	t.Helper()
	w.poll(t, 5*time.Second, func() error {
		text, err := w.lab.LogText(process)
		if err != nil {
			return err
		}
		text = text[min(mark, len(text)):]
	lines:
		for line := range strings.Lines(text) {
			for _, word := range words {
				if !strings.Contains(line, word) {
					continue lines
				}
			}
			return nil
		}
		return fmt.Errorf("no line of %s says %q; it says:\n%s", process, words, tail(text))
	})
}

// mark is the present end of a process's log.
func (w *world) mark(t *testing.T, process string) int {
	t.Helper()
	text, err := w.lab.LogText(process)
	must(t, err)
	return len(text)
}

func (w *world) poll(t *testing.T, limit time.Duration, try func() error) {
	t.Helper()
	if err := netlab.Poll(t.Context(), limit, try); err != nil {
		t.Error(err)
	}
}

// memory is what a process has in memory now and had at most since its peak was last forgotten, in MiB.
func memory(t *testing.T, p netlab.Process) (now, peak int) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID))
	must(t, err)
	for line := range strings.Lines(string(text)) {
		var kib int
		if n, _ := fmt.Sscanf(line, "VmRSS: %d kB", &kib); n == 1 {
			now = kib >> 10
		}
		if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kib); n == 1 {
			peak = kib >> 10
		}
	}
	return now, peak
}

// frugal runs do and wants no process of the mesh to have grown by more than so many MiB at any moment of it.
func (w *world) frugal(t *testing.T, most int, do func()) {
	t.Helper()
	before := map[string]int{}
	for name, p := range w.processes {
		must(t, os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", p.PID), []byte("5"), 0)) // proc(5): forgets the peak
		before[name], _ = memory(t, p)
	}
	do()
	for name, p := range w.processes {
		_, peak := memory(t, p)
		if peak > before[name]+4 {
			t.Logf("%s: %d MiB before, %d MiB at most", name, before[name], peak)
		}
		if peak-before[name] > most {
			t.Errorf("%s grew from %d to %d MiB, want at most %d more", name, before[name], peak, most)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func tail(s string) string { return s[max(0, len(s)-1500):] }
