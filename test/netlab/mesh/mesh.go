// Package mesh answers: how does Ambit get into a lab? It runs the real controller, agents and ztunnels in a netlab.Lab, each
// as it runs on a cluster (the ztunnel in a pod of its own, as uid 1337 and without any privilege), kills and restarts them,
// and reads what they tell about themselves. Flags of the mesh's commands are written here and nowhere else in test/.
//
// Like the lab, the mesh outlives the process that started it; Open finds it again. Methods may be called concurrently, but
// not two that start or kill the same process.
package mesh

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ambit-mesh/ambit/test/netlab"
)

// Namespace is the system namespace.
const Namespace = "ambit-system"

// Names of the mesh's processes in the lab.
const ControllerName = "controller"

// AgentName is the process name of a node's agent.
func AgentName(node string) string { return "agent-" + node }

// ZtunnelName is the process name of a node's ztunnel.
func ZtunnelName(node string) string { return "ztunnel-" + node }

// ControllerPod is the controller's pod.
const ControllerPod = Namespace + "/controller"

// ZtunnelPod is the pod that a node's ztunnel runs in.
func ZtunnelPod(node string) string { return Namespace + "/" + ZtunnelName(node) }

// Options are what a user may choose.
type Options struct {
	// CertTTL is how long workload certificates live; 0 is the product's default.
	CertTTL time.Duration `json:"certTTL"`
}

// Mesh is Ambit running in a lab.
type Mesh struct {
	lab  *netlab.Lab
	opts Options
}

// programs are the commands a mesh consists of.
var programs = []string{"ambit-agent", "ambit-cni", "ambit-controller", "ambit-ztunnel"}

// Preflight says in one sentence why no mesh can run with the programs in binDir.
func Preflight(binDir string) error {
	for _, name := range programs {
		if unix.Access(filepath.Join(binDir, name), unix.X_OK) != nil {
			return fmt.Errorf("the program %s is missing: run `make build-lab` first", filepath.Join(binDir, name))
		}
	}
	return nil
}

// Start starts the mesh in a lab and waits until it is ready. When it fails, what it started stays until the lab goes down.
func Start(ctx context.Context, lab *netlab.Lab, opts Options) (*Mesh, error) {
	m := &Mesh{lab: lab, opts: opts}
	nodes, err := lab.Nodes()
	if err != nil {
		return nil, err
	}
	content, err := json.Marshal(opts)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(os.MkdirAll(filepath.Join(m.dir(), "ca"), 0o755), os.WriteFile(m.optionsFile(), content, 0o644)); err != nil {
		return nil, err
	}
	// Pods of the mesh itself come before the agents: no agent would let a pod start on a node that has no mesh yet.
	if _, err := lab.AddPod(ctx, netlab.PodSpec{
		Namespace: Namespace, Name: "controller", Node: nodes[0].Name, ServiceAccount: "ambit-controller", Labels: map[string]string{"app": "ambit-controller"},
	}); err != nil {
		return nil, err
	}
	for _, node := range nodes {
		if _, err := lab.AddPod(ctx, netlab.PodSpec{
			Namespace: Namespace, Name: ZtunnelName(node.Name), Node: node.Name, ServiceAccount: "ambit-ztunnel", Labels: map[string]string{"app": "ambit-ztunnel"},
		}); err != nil {
			return nil, err
		}
	}
	if err := m.mintTokens(nodes); err != nil {
		return nil, err
	}
	if err := m.StartController(ctx); err != nil {
		return nil, err
	}
	for _, node := range nodes {
		if err := m.StartAgent(ctx, node.Name); err != nil {
			return nil, err
		}
		if err := m.StartZtunnel(ctx, node.Name); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// Open finds the mesh of a lab that another process started.
func Open(lab *netlab.Lab) (*Mesh, error) {
	m := &Mesh{lab: lab}
	content, err := os.ReadFile(m.optionsFile())
	if err != nil {
		return nil, fmt.Errorf("no mesh runs in lab %s: %w", lab.Name(), err)
	}
	return m, json.Unmarshal(content, &m.opts)
}

func (m *Mesh) optionsFile() string { return filepath.Join(m.lab.Dir(), "mesh.json") }

// CertTTL is how long workload certificates live.
func (m *Mesh) CertTTL() time.Duration { return m.opts.CertTTL }

// Kill ends a process of the mesh by SIGKILL, as a crash would.
func (m *Mesh) Kill(ctx context.Context, name string) error {
	p, err := m.lab.Process(name)
	if err != nil {
		return err
	}
	return p.Stop(ctx, unix.SIGKILL, 5*time.Second)
}

// Enrolled tells what the agent of the pod's node wrote about it: the mesh takes its traffic, or not.
func (m *Mesh) Enrolled(pod netlab.Pod) (bool, error) { return Enrolled(m.lab, pod) }

// Enrolled is Mesh.Enrolled for a lab.
func Enrolled(lab *netlab.Lab, pod netlab.Pod) (bool, error) {
	content, err := os.ReadFile(filepath.Join(lab.Manifests(), "status", "pods", pod.Namespace+"_"+pod.Name+".json"))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	var status struct {
		Annotations map[string]string `json:"annotations"`
	}
	if err := json.Unmarshal(content, &status); err != nil {
		return false, fmt.Errorf("status of pod %s: %w", pod.Ref(), err)
	}
	return status.Annotations["ambient.istio.io/redirection"] == "enabled", nil
}

// Ready asks a ztunnel's readiness endpoint; the error says what is missing.
func (m *Mesh) Ready(ctx context.Context, node string) error {
	_, err := m.get(ctx, ZtunnelPod(node), "http://127.0.0.1:15021/healthz/ready")
	return err
}

// WaitReady waits until the ztunnel of a node is ready, at most limit.
func (m *Mesh) WaitReady(ctx context.Context, node string, limit time.Duration) error {
	p, err := m.lab.Process(ZtunnelName(node))
	if err != nil {
		return err
	}
	return m.ready(ctx, p, limit, func() error { return m.Ready(ctx, node) })
}

// ready waits until try succeeds, at most limit, and gives up at once if the process ends.
func (m *Mesh) ready(ctx context.Context, p netlab.Process, limit time.Duration, try func() error) error {
	err := netlab.Poll(ctx, limit, func() error {
		if !p.Alive() {
			return nil // told below
		}
		return try()
	})
	if err == nil && p.Alive() {
		return nil
	}
	log, _ := m.lab.LogText(p.Name)
	if err == nil {
		return fmt.Errorf("%s has ended: %s", p.Name, tail(log))
	}
	return fmt.Errorf("%s is not ready after %s: %w; its log ends: %s", p.Name, limit, err, tail(log))
}

// tail is the end of a log: its last words say why it ended.
func tail(log string) string {
	lines := strings.Split(strings.TrimSpace(log), "\n")
	return strings.Join(lines[max(0, len(lines)-3):], " | ")
}
