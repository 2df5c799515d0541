package netlab

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

func metaUID(uid string) types.UID { return types.UID(uid) }

// SystemNamespace holds the pods that every cluster has: here its DNS.
const SystemNamespace = "kube-system"

// startInfra starts what every pod takes for granted: the cluster's DNS server, in a pod of the first node, and a kubelet on
// each node.
func (l *Lab) startInfra(ctx context.Context, c Config) error {
	dns, err := l.AddPod(ctx, PodSpec{Namespace: SystemNamespace, Name: "dns", Node: c.Nodes[0], Labels: map[string]string{"k8s-app": "kube-dns"}})
	if err != nil {
		return err
	}
	argv := []string{filepath.Join(c.BinDir, "labprog"), "dnsd", "--manifests", l.Manifests()}
	for _, record := range c.Records {
		argv = append(argv, "--record", record)
	}
	server, err := l.Start(Spec{Name: "dns", Pod: dns.Ref(), Argv: argv})
	if err != nil {
		return err
	}
	if err := l.update(func(s *state) error { s.DNS = dns.IP4().String(); return nil }); err != nil {
		return err
	}
	for _, node := range c.Nodes {
		argv := []string{filepath.Join(c.BinDir, "labprog"), "kubelet", "--socket", l.kubeletSocket(node)}
		if _, err := l.Start(Spec{Name: KubeletName(node), Node: node, Argv: argv}); err != nil {
			return err
		}
	}
	return l.WaitListening(ctx, server, 53, time.Minute)
}

func (l *Lab) kubeletSocket(node string) string {
	return filepath.Join(l.NodeDir(node), "kubelet.sock")
}

// KubeletName is the process name of a node's kubelet.
func KubeletName(node string) string { return "kubelet-" + node }

// KubeletCgroup is the cgroup in which the node's kubelet, and nothing else, runs.
func (l *Lab) KubeletCgroup(node string) string {
	return filepath.Join(l.cgroup(), node, "host", KubeletName(node))
}

// Probe lets the node's kubelet probe a pod: http://ip:port/path or tcp://ip:port.
func (l *Lab) Probe(ctx context.Context, node, url string) (Output, error) {
	labprog, err := l.Bin("labprog")
	if err != nil {
		return Output{}, err
	}
	return l.Exec(ctx, Spec{Node: node, MachineMounts: true, Argv: []string{labprog, "probe", "--kubelet", l.kubeletSocket(node), url}})
}

// HostProbe does the same as an ordinary process of the node.
func (l *Lab) HostProbe(ctx context.Context, node, url string) (Output, error) {
	labprog, err := l.Bin("labprog")
	if err != nil {
		return Output{}, fmt.Errorf("probe: %w", err)
	}
	return l.Exec(ctx, Spec{Node: node, Argv: []string{labprog, "probe", url}})
}
