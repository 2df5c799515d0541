package demo

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/ambit-mesh/ambit/test/netlab"
	"github.com/ambit-mesh/ambit/test/netlab/mesh"
)

// InLab fills in where the checks run: a lab, and the mesh in it, which may be nil.
func (c Config) InLab(l *netlab.Lab, m *mesh.Mesh) Config {
	c.Lab = inLab{l}
	if m != nil { // a nil *mesh.Mesh would be a Mesh that is not nil
		c.Mesh = labMesh{m, l}
	}
	return c
}

// inLab is a netlab.Lab as the checks want it.
type inLab struct{ *netlab.Lab }

func (l inLab) AddPods(ctx context.Context, specs ...netlab.PodSpec) (pods []netlab.Pod, err error) {
	for _, spec := range specs {
		pod, err := l.AddPod(ctx, spec)
		if err != nil {
			return pods, err
		}
		pods = append(pods, pod)
	}
	return pods, nil
}

func (l inLab) SetNamespace(_ context.Context, name string, labels map[string]string) error {
	return l.Lab.SetNamespace(name, labels)
}

func (l inLab) SetPodLabels(_ context.Context, ref string, labels map[string]string) error {
	return l.Lab.SetPodLabels(ref, labels)
}

func (l inLab) PutService(_ context.Context, namespace, name string, selector map[string]string, ports map[int]int) (*corev1.Service, error) {
	return l.Lab.PutService(namespace, name, selector, ports)
}

func (l inLab) Apply(_ context.Context, name string, manifest []byte) error {
	return l.Lab.Apply(name, manifest)
}

func (l inLab) Remove(_ context.Context, name string) error { return l.Lab.Remove(name) }

// SetReady does what a kubelet would that saw the probe's answer change: the lab's does not look by itself.
func (l inLab) SetReady(_ context.Context, ref string, ready bool) error {
	return l.Lab.SetReady(ref, ready)
}

func (l inLab) Deploy(ctx context.Context, dir string, label func(map[string]string)) (out []Deployed, err error) {
	pods, err := l.Lab.Deploy(ctx, dir, label)
	for _, pod := range pods {
		d := Deployed{Pod: pod, Deployment: pod.Ref()[:strings.LastIndexByte(pod.Ref(), '-')]}
		err = errors.Join(err, l.UpdatePod(pod.Ref(), func(o *corev1.Pod) { d.Ports = o.Spec.Containers[0].Ports }))
		out = append(out, d)
	}
	return out, err
}

func (l inLab) Start(ctx context.Context, spec netlab.Spec, port int) (Program, error) {
	p, err := l.Lab.Start(spec)
	if err != nil {
		return nil, err
	}
	return p, l.WaitListening(ctx, p, port, 15*time.Second)
}

func (l inLab) Capture(ctx context.Context, node, file string) (Program, error) {
	p, err := l.Lab.Start(netlab.Spec{
		Name: "tcpdump-" + filepath.Base(file), Node: netlab.Wire, MachineMounts: true, // on its port of the wire, named as it is
		Argv: []string{"tcpdump", "-i", node, "-U", "--immediate-mode", "-s", "0", "-B", "16384", "-Z", "root", "-w", file, "tcp"},
	})
	if err != nil {
		return nil, err
	}
	// tcpdump says when it listens; before that it would miss the handshake.
	if err := netlab.Poll(ctx, 5*time.Second, func() error {
		if log, _ := l.LogText(p.Name); !strings.Contains(log, "listening on") {
			return fmt.Errorf("tcpdump does not listen: %s", log)
		}
		return nil
	}); err != nil {
		return nil, errors.Join(err, p.Stop(ctx, unix.SIGKILL, time.Second))
	}
	return p, nil
}

func (l inLab) Questions(_ context.Context, name string, client netip.Addr) (n int, err error) {
	log, err := l.LogText("dns")
	for line := range strings.Lines(log) {
		if strings.Contains(line, "name="+name+". ") && strings.Contains(line, "from="+client.String()+":") {
			n++
		}
	}
	return n, err
}

// probed is what a probe asks for. The lab's pods have their HTTPProbe at port 80.
func probed(pod netlab.Pod) string { return fmt.Sprintf("http://%s/", pod.IP4()) }

func (l inLab) Probe(ctx context.Context, pod netlab.Pod) (netlab.Output, error) {
	return l.Lab.Probe(ctx, pod.Node, probed(pod))
}

func (l inLab) HostProbe(ctx context.Context, pod netlab.Pod) (netlab.Output, error) {
	return l.Lab.HostProbe(ctx, pod.Node, probed(pod))
}

// labMesh is a mesh.Mesh as the checks want it.
type labMesh struct {
	*mesh.Mesh
	lab *netlab.Lab
}

func (m labMesh) ConfigDump(ctx context.Context, node string) (string, error) {
	return m.Admin(ctx, node, "/config_dump")
}

func (m labMesh) ZtunnelLog(_ context.Context, node string) (string, error) {
	return m.lab.LogText(mesh.ZtunnelName(node))
}

func (m labMesh) Links() ([]int, error) { return m.lab.Links() }

// Why asks in the pod of the ztunnel, where its admin port is.
func (m labMesh) Why(ctx context.Context, node string, args ...string) (string, error) {
	out, err := m.lab.Exec(ctx, netlab.Spec{Pod: mesh.ZtunnelPod(node), Argv: append([]string{"ambit", "why"}, args...)})
	return out.Stdout, errors.Join(err, out.Err())
}
