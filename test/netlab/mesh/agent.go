package mesh

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/ambit-mesh/ambit/test/netlab"
)

func (m *Mesh) statusSocket(node string) string {
	return filepath.Join(m.lab.NodeDir(node), "agent-status.sock")
}

// StartAgent starts a node's agent, as root in the node's own namespace, and waits until it is ready: programs attached, the
// plugin chained into the node's CNI configuration, pods found.
func (m *Mesh) StartAgent(ctx context.Context, node string) error {
	program, err := m.lab.Bin("ambit-agent")
	if err != nil {
		return err
	}
	root, err := netlab.CgroupRoot()
	if err != nil {
		return err
	}
	ztunnel, err := m.ZtunnelCgroup(node)
	if err != nil {
		return err
	}
	kubelet, err := m.lab.Process(netlab.KubeletName(node))
	if err != nil {
		return err
	}
	if err := m.makeHandoffDir(node); err != nil {
		return err
	}
	dir := m.lab.NodeDir(node)
	p, err := m.lab.Start(netlab.Spec{Name: AgentName(node), Node: node, MachineMounts: true, Argv: []string{
		program, "--node", node, "--manifests", m.lab.Manifests(),
		"--pin-dir", filepath.Join(m.lab.BPF(), node), "--state-dir", filepath.Join(dir, "agent"), "--cgroup-root", root,
		"--handoff-socket", filepath.Join(m.handoffDir(node), "handoff.sock"), "--ztunnel-uid", strconv.Itoa(ztunnelUID),
		"--ztunnel-cgroup", strings.TrimPrefix(ztunnel, root),
		"--cni-socket", filepath.Join(dir, "cni.sock"), "--cni-conf-dir", m.lab.NetD(node),
		"--status-socket", m.statusSocket(node), "--kubelet-pid", strconv.Itoa(kubelet.PID),
	}})
	if err != nil {
		return err
	}
	return m.ready(ctx, p, time.Minute, func() error {
		status, err := m.AgentStatus(ctx, node)
		if err == nil && !status.Ready {
			err = fmt.Errorf("missing: %s", strings.Join(status.Missing, ", "))
		}
		return err
	})
}

// AgentStatus is what an agent tells of itself.
type AgentStatus struct {
	Ready   bool     `json:"ready"`
	Missing []string `json:"missing"`
	Pods    []struct {
		Namespace, Name, Verdict, Reason, Detail, Error string
		Enrolled, Acked                                 bool
	} `json:"pods"`
}

// AgentStatus asks a node's agent.
func (m *Mesh) AgentStatus(ctx context.Context, node string) (s AgentStatus, err error) {
	client := &http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", m.statusSocket(node))
		},
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent/status", nil)
	if err != nil {
		return s, err
	}
	answer, err := client.Do(req)
	if err != nil {
		return s, fmt.Errorf("status of the agent on %s: %w", node, err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err != nil {
		return s, fmt.Errorf("status of the agent on %s: %w", node, err)
	}
	return s, nil
}
