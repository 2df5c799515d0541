package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// World is a cluster of test/cluster, as an administrator with kubectl and a shell on each node has it.
type World struct {
	Cluster string   // the program ambit-cluster
	Dir     string   // the cluster's folder
	Tree    string   // top of the sources
	Work    string   // for files that the checks make
	kube    string   // the program that holds kubectl
	nodes   []string // clients run on the first, servers on the second
}

// others are the nodes but one.
func (w *World) others(node string) []string {
	return slices.DeleteFunc(slices.Clone(w.nodes), func(n string) bool { return n == node })
}

// output runs a command; an error holds what it said.
func output(cmd *exec.Cmd) (string, error) {
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		args := slices.DeleteFunc(slices.Clone(cmd.Args[1:]), func(a string) bool { // what all have
			return strings.HasPrefix(a, "--kubeconfig=") || strings.HasPrefix(a, "--cache-dir=") || strings.HasPrefix(a, "--dir=")
		})
		return out.String(), fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, lastLines(said.String()))
	}
	return out.String(), nil
}

// lastLines is the end of a text, on one line.
func lastLines(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-3):], "; ")
}

func (w *World) kubectlCommand(ctx context.Context, args ...string) *exec.Cmd {
	all := []string{"kubectl", "--kubeconfig=" + filepath.Join(w.Dir, "kubeconfig"), "--cache-dir=" + filepath.Join(w.Dir, "cache")}
	return exec.CommandContext(ctx, w.kube, append(all, args...)...)
}

func (w *World) kubectl(ctx context.Context, args ...string) (string, error) {
	return output(w.kubectlCommand(ctx, args...))
}

// apply gives manifests to the API server.
func (w *World) apply(ctx context.Context, text string) error {
	cmd := w.kubectlCommand(ctx, "apply", "--server-side", "--force-conflicts", "-f", "-")
	cmd.Stdin = strings.NewReader(text)
	_, err := output(cmd)
	return err
}

// in runs the workload's program in a pod (namespace/name).
func (w *World) in(ctx context.Context, pod string, argv ...string) (string, error) {
	out, err := w.kubectl(ctx, append(execArgs(pod), argv...)...)
	return strings.TrimSpace(out), err
}

func execArgs(pod string) []string {
	namespace, name, _ := strings.Cut(pod, "/")
	return []string{"-n", namespace, "exec", name, "-c", "main", "--", "/e2e"}
}

// onNode runs a command in all namespaces of a node.
func (w *World) onNode(ctx context.Context, node string, argv ...string) (string, error) {
	return output(w.onNodeCommand(ctx, node, argv...))
}

func (w *World) onNodeCommand(ctx context.Context, node string, argv ...string) *exec.Cmd {
	return exec.CommandContext(ctx, w.Cluster, append([]string{"exec", "--dir=" + w.Dir, node, "--"}, argv...)...)
}

// agent is what a node's agent says of itself.
func (w *World) agent(ctx context.Context, node string) (s agentStatus, err error) {
	text, err := w.onNode(ctx, node, "curl", "-sS", "--max-time", "5", "--unix-socket", "/run/ambit/status.sock", "http://agent/status")
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal([]byte(text), &s)
}

// agentStatus is of the agent's /status what the checks look at.
type agentStatus struct {
	Ready   bool     `json:"ready"`
	Missing []string `json:"missing"`
	Kubelet string   `json:"kubelet"`
	Pods    []struct {
		Namespace string `json:"namespace"`
		Name      string `json:"name"`
		Enrolled  bool   `json:"enrolled"`
		Acked     bool   `json:"acked"`
		Reason    string `json:"reason"`
		Error     string `json:"error"`
		Older     uint64 `json:"olderConnections"`
	} `json:"pods"`
}

// ztunnelLog is the access log of a node's ztunnel since a moment, a line each.
func (w *World) ztunnelLog(ctx context.Context, node string, since time.Time) ([]string, error) {
	name, err := w.kubectl(ctx, "-n", "ambit-system", "get", "pods", "-l", "app=ambit-ztunnel", "--field-selector=spec.nodeName="+node, "-o", "name")
	if err != nil {
		return nil, err
	}
	var lines []string
	for pod := range strings.FieldsSeq(name) { // two while one replaces the other
		text, err := w.kubectl(ctx, "-n", "ambit-system", "logs", pod, "--since-time="+since.UTC().Format(time.RFC3339))
		if err != nil {
			return nil, err
		}
		lines = append(lines, strings.Split(text, "\n")...)
	}
	return lines, nil
}

// logged waits for a line of a node's ztunnel that holds all of texts, and answers it.
func (w *World) logged(ctx context.Context, node string, since time.Time, texts ...string) (found string, err error) {
	err = poll(ctx, 20*time.Second, func() error {
		lines, err := w.ztunnelLog(ctx, node, since)
		if err != nil {
			return err
		}
		for _, line := range lines {
			if containsAll(line, texts) {
				found = line
				return nil
			}
		}
		return fmt.Errorf("no line of %s's ztunnel holds %q; the last say: %s", node, texts, lastLines(strings.Join(lines, "\n")))
	})
	return found, err
}

func containsAll(text string, parts []string) bool {
	for _, p := range parts {
		if !strings.Contains(text, p) {
			return false
		}
	}
	return true
}

// pods tells one thing of each pod that a selector finds and that is not about to go, as "NAME=WHAT".
func (w *World) pods(ctx context.Context, namespace, selector, what string) ([]string, error) {
	text, err := w.kubectl(ctx, "-n", namespace, "get", "pods", "-l", selector, "-o",
		"go-template={{range .items}}{{if not .metadata.deletionTimestamp}}{{.metadata.name}}="+what+"{{\"\\n\"}}{{end}}{{end}}")
	return strings.Fields(text), err
}

// podIP is the address of the pod that a selector finds.
func (w *World) podIP(ctx context.Context, namespace, selector string) (string, error) {
	all, err := w.pods(ctx, namespace, selector, "{{.status.podIP}}")
	if err == nil && len(all) != 1 {
		err = fmt.Errorf("pods of %s: %v, want one", selector, all)
	}
	if err != nil {
		return "", err
	}
	_, ip, _ := strings.Cut(all[0], "=")
	return ip, nil
}

// lives tells pods by their uid, and how often their containers were started: what changes when a pod is restarted.
func (w *World) lives(ctx context.Context, namespace string) (string, error) {
	all, err := w.pods(ctx, namespace, "", life)
	return strings.Join(all, " "), err
}

// eventually asks until there is no error, and answers what was said then.
func eventually(ctx context.Context, limit time.Duration, ask func() (string, error)) (saw string, err error) {
	err = poll(ctx, limit, func() (err error) {
		saw, err = ask()
		return err
	})
	return saw, err
}

// poll asks until the answer is nil, or the time is over.
func poll(ctx context.Context, limit time.Duration, ask func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		err := ask()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("within %s: %w", limit, err)
		case <-time.After(300 * time.Millisecond):
		}
	}
}
