package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const pauseImage = "docker.io/ambit/pause:dev"

// writeConfig fills the node's folders: CNI plugins and network, containerd, kubelet and kube-proxy, each at the
// path where a real node has it.
func (s NodeSpec) writeConfig() error {
	files := map[string]string{
		"/etc/cni/net.d/10-bridge.conflist": s.cni(),
		"/etc/kubernetes/containerd.toml":   containerdConfig,
		"/etc/kubernetes/kubelet.yaml":      kubeletConfig,
		"/etc/kubernetes/kube-proxy.yaml":   s.proxyConfig(),
		"/etc/kubernetes/resolv.conf":       "",
	}
	cluster := filepath.Dir(filepath.Dir(s.Dir))
	for to, from := range map[string]string{
		"ca.crt": "pki/ca.crt", "kubelet.crt": "pki/" + s.Node.Name + ".crt", "kubelet.key": "pki/" + s.Node.Name + ".key",
		"kubelet.kubeconfig": s.Node.Name + ".kubeconfig", "kube-proxy.kubeconfig": "kube-proxy.kubeconfig",
	} {
		text, err := os.ReadFile(filepath.Join(cluster, from))
		if err != nil {
			return err
		}
		files["/etc/kubernetes/"+to] = string(text)
	}
	for path, text := range files {
		if _, err := os.Stat(s.upper(path)); err == nil && strings.HasPrefix(path, "/etc/cni/") {
			continue // others have changed it since the node was made
		}
		if err := errors.Join(os.MkdirAll(filepath.Dir(s.upper(path)), 0o755), os.WriteFile(s.upper(path), []byte(text), 0o600)); err != nil {
			return err
		}
	}
	// Its process is called as everywhere: others look for it by name.
	if err := os.Symlink(s.Binary, s.kubelet()); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	bin := s.upper("/opt/cni/bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return err
	}
	for _, plugin := range []string{"bridge", "host-local", "loopback", "portmap"} {
		if err := os.Symlink("/usr/lib/cni/"+plugin, filepath.Join(bin, plugin)); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// cni is a bridge of the pods on the node; between nodes there are plain routes, so nothing is masqueraded.
func (s NodeSpec) cni() string {
	type m = map[string]any
	var ranges [][]m
	var routes []m
	for family, cidr := range s.Node.Ranges {
		ranges = append(ranges, []m{{"subnet": cidr}})
		routes = append(routes, m{"dst": []string{"0.0.0.0/0", "::/0"}[family]})
	}
	text, _ := json.MarshalIndent(m{"cniVersion": "1.0.0", "name": "pods", "plugins": []m{
		{"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true, "ipam": m{
			"type": "host-local", "dataDir": "/run/cni-ipam", "ranges": ranges, "routes": routes,
		}},
		{"type": "portmap", "capabilities": m{"portMappings": true}},
	}}, "", "  ") // of maps and strings: cannot fail
	return string(text)
}

const containerdConfig = `version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "` + pauseImage + `"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/opt/cni/bin"
    conf_dir = "/etc/cni/net.d"
`

// kubeletConfig: evictions and image collection are as good as off because the disk is the machine's, and as full as that is.
const kubeletConfig = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: /etc/kubernetes/ca.crt}
authorization: {mode: Webhook}
tlsCertFile: /etc/kubernetes/kubelet.crt
tlsPrivateKeyFile: /etc/kubernetes/kubelet.key
clusterDNS: [` + dnsService + `]
clusterDomain: cluster.local
resolvConf: /etc/kubernetes/resolv.conf
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
cgroupDriver: cgroupfs
enforceNodeAllocatable: []
failCgroupV1: false
failSwapOn: false
evictionHard: {memory.available: 50Mi, nodefs.available: 1%, imagefs.available: 1%, nodefs.inodesFree: 1%}
imageGCHighThresholdPercent: 100
nodeStatusUpdateFrequency: 5s
syncFrequency: 10s
serializeImagePulls: false
`

func (s NodeSpec) proxyConfig() string {
	return fmt.Sprintf(`apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: /etc/kubernetes/kube-proxy.kubeconfig}
hostnameOverride: %s
mode: nftables
conntrack: {maxPerCore: 0, min: 0}
detectLocalMode: InterfaceNamePrefix
detectLocal: {interfaceNamePrefix: cni0}
`, s.Node.Name)
}

func (s NodeSpec) kubelet() string { return filepath.Join(s.Dir, "kubelet") }

// daemons are the node's programs, in the order in which they start.
func (s NodeSpec) daemons() [][]string {
	return [][]string{
		{"containerd", "--config=/etc/kubernetes/containerd.toml"},
		{
			s.kubelet(), "kubelet", "--config=/etc/kubernetes/kubelet.yaml", "--kubeconfig=/etc/kubernetes/kubelet.kubeconfig",
			"--hostname-override=" + s.Node.Name, "--node-ip=" + strings.Join(s.Node.IPs, ","), "--v=1",
		},
		{s.Binary, "kube-proxy", "--config=/etc/kubernetes/kube-proxy.yaml", "--v=1"},
	}
}
