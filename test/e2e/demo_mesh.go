package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ambit-mesh/ambit/test/netlab"
	"github.com/ambit-mesh/ambit/test/netlab/mesh"
)

// demoMesh is the mesh of a cluster as the demo's checks want one (demo.Mesh).
type demoMesh struct{ *demoLab }

// CertTTL is part of demo.Mesh.
func (m demoMesh) CertTTL() time.Duration { return demoTTL }

// podsOf lists the pods of a part of the mesh, on a node or on all.
func (l *demoLab) podsOf(ctx context.Context, app, node string) ([]corev1.Pod, error) {
	options := metav1.ListOptions{LabelSelector: "app=" + app}
	if node != "" {
		options.FieldSelector = "spec.nodeName=" + node
	}
	list, err := l.kube.CoreV1().Pods(mesh.Namespace).List(ctx, options)
	if err != nil {
		return nil, err
	}
	if len(list.Items) == 0 {
		return nil, fmt.Errorf("no pod of %s %s", app, node)
	}
	return list.Items, nil
}

func (l *demoLab) ztunnel(ctx context.Context, node string) (corev1.Pod, error) {
	pods, err := l.podsOf(ctx, "ambit-ztunnel", node)
	if err != nil {
		return corev1.Pod{}, err
	}
	return pods[0], nil
}

// fetch asks over HTTP, from the machine.
func fetch(ctx context.Context, url string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", url, resp.Status, body)
	}
	return string(body), err
}

// Metrics is part of demo.Mesh: what a Prometheus would read.
func (m demoMesh) Metrics(ctx context.Context, node string) (mesh.Metrics, error) {
	pod, err := m.ztunnel(ctx, node)
	if err != nil {
		return nil, err
	}
	text, err := fetch(ctx, "http://"+pod.Status.PodIP+":15020/metrics")
	if err != nil {
		return nil, fmt.Errorf("metrics of the ztunnel on %s: %w", node, err)
	}
	return mesh.ParseMetrics(text)
}

// ZtunnelLog is part of demo.Mesh: of the last minute.
func (m demoMesh) ZtunnelLog(ctx context.Context, node string) (string, error) {
	pod, err := m.ztunnel(ctx, node)
	if err != nil {
		return "", err
	}
	minute := int64(60)
	text, err := m.kube.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, &corev1.PodLogOptions{SinceSeconds: &minute}).DoRaw(ctx)
	return string(text), err
}

// ConfigDump is part of demo.Mesh.
func (m demoMesh) ConfigDump(ctx context.Context, node string) (string, error) {
	url, err := m.admin(ctx, node)
	if err != nil {
		return "", err
	}
	return fetch(ctx, url+"/config_dump")
}

// Why is part of demo.Mesh.
func (m demoMesh) Why(ctx context.Context, node string, args ...string) (string, error) {
	url, err := m.admin(ctx, node)
	if err != nil {
		return "", err
	}
	return output(exec.CommandContext(ctx, filepath.Join(m.w.Tree, "build/bin/ambit"), append([]string{"why", "--dump", url}, args...)...))
}

// forward is a `kubectl port-forward` that runs.
type forward struct {
	url string
	end func()
}

// admin is the URL of a ztunnel's admin port, which is on its pod's loopback only: reached as people do it.
func (m demoMesh) admin(ctx context.Context, node string) (string, error) {
	pod, err := m.ztunnel(ctx, node)
	if err != nil {
		return "", err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if f := m.forwards[pod.Name]; f != nil {
		return f.url, nil
	}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx)) // for the steps to come, too
	cmd := m.w.kubectlCommand(running, "-n", pod.Namespace, "port-forward", "pod/"+pod.Name, ":15000")
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		cancel()
		return "", err
	}
	f := &forward{end: func() {
		cancel()
		_ = cmd.Wait() // it was killed
	}}
	lines := bufio.NewScanner(out)
	for lines.Scan() { // Forwarding from 127.0.0.1:40123 -> 15000
		_, rest, ok := strings.Cut(lines.Text(), "Forwarding from ")
		if address, _, _ := strings.Cut(rest, " "); ok {
			f.url = "http://" + address
			m.forwards[pod.Name] = f
			go func() { _, _ = io.Copy(io.Discard, out) }() // it says each connection
			return f.url, nil
		}
	}
	f.end()
	return "", errors.New("kubectl port-forward ended")
}

// Links is part of demo.Mesh: those pinned on the nodes.
func (m demoMesh) Links() (out []int, err error) {
	for _, node := range m.w.nodes {
		pid, err := m.nodePID(node)
		if err != nil {
			return nil, err
		}
		ids, err := netlab.PinnedLinks(fmt.Sprintf("/proc/%d/root/sys/fs/bpf", pid))
		if err != nil {
			return nil, err
		}
		for _, id := range ids {
			out = append(out, int(id))
		}
	}
	slices.Sort(out)
	return out, nil
}
