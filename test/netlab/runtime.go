package netlab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"

	"github.com/containernetworking/cni/libcni"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/ambit-mesh/ambit/agent/netns"
)

// NetD is the node's CNI configuration folder, where the mesh's agent chains its plugin in.
func (l *Lab) NetD(node string) string { return filepath.Join(l.NodeDir(node), "net.d") }

// writeConflist writes the configuration of the node's own network: a veth pair per pod, routed.
func (l *Lab) writeConflist(node Node) error {
	var ranges []any
	for _, net := range node.PodNets {
		ranges = append(ranges, []any{map[string]any{"subnet": net.String()}})
	}
	conf, err := json.MarshalIndent(map[string]any{
		"cniVersion": "1.0.0",
		"name":       "lab",
		"plugins": []any{map[string]any{
			"type": "ptp",
			"mtu":  1500,
			"ipam": map[string]any{
				"type": "host-local", "dataDir": filepath.Join(l.NodeDir(node.Name), "ipam"), "ranges": ranges,
				"routes": []any{map[string]any{"dst": "0.0.0.0/0"}, map[string]any{"dst": "::/0"}},
			},
		}},
	}, "", "  ")
	if err != nil {
		return err
	}
	return writeAtomic(filepath.Join(l.NetD(node.Name), "10-lab.conflist"), conf)
}

// cniAdd plays the container runtime: first configuration by name, as containerd and CRI-O do, run in the node's namespace.
func (l *Lab) cniAdd(ctx context.Context, pod Pod) ([]netip.Addr, error) {
	var ips []netip.Addr
	err := l.cni(pod, func(cni *libcni.CNIConfig, list *libcni.NetworkConfigList, rt *libcni.RuntimeConf) error {
		answer, err := cni.AddNetworkList(ctx, list, rt)
		if err != nil {
			return fmt.Errorf("CNI ADD: %w", err)
		}
		result, err := types100.NewResultFromResult(answer)
		if err != nil {
			return fmt.Errorf("CNI ADD result: %w", err)
		}
		for _, ip := range result.IPs {
			addr, ok := netip.AddrFromSlice(ip.Address.IP)
			if !ok {
				return fmt.Errorf("CNI ADD result: address %v", ip.Address)
			}
			if addr = addr.Unmap(); addr.Is4() {
				ips = append([]netip.Addr{addr}, ips...)
			} else {
				ips = append(ips, addr)
			}
		}
		return nil
	})
	return ips, err
}

func (l *Lab) cniDel(ctx context.Context, pod Pod) error {
	return l.cni(pod, func(cni *libcni.CNIConfig, list *libcni.NetworkConfigList, rt *libcni.RuntimeConf) error {
		if err := cni.DelNetworkList(ctx, list, rt); err != nil {
			return fmt.Errorf("CNI DEL: %w", err)
		}
		return nil
	})
}

// CheckPod runs CNI CHECK for a pod, as a runtime may at any time.
func (l *Lab) CheckPod(ctx context.Context, ref string) error {
	pod, err := l.Pod(ref)
	if err != nil {
		return err
	}
	return l.cni(pod, func(cni *libcni.CNIConfig, list *libcni.NetworkConfigList, rt *libcni.RuntimeConf) error {
		if err := cni.CheckNetworkList(ctx, list, rt); err != nil {
			return fmt.Errorf("CNI CHECK: %w", err)
		}
		return nil
	})
}

func (l *Lab) cni(pod Pod, run func(*libcni.CNIConfig, *libcni.NetworkConfigList, *libcni.RuntimeConf) error) error {
	s, err := l.load()
	if err != nil {
		return err
	}
	files, err := libcni.ConfFiles(l.NetD(pod.Node), []string{".conf", ".conflist"})
	if err != nil || len(files) == 0 {
		return errors.Join(fmt.Errorf("no CNI configuration in %s", l.NetD(pod.Node)), err)
	}
	list, err := libcni.NetworkConfFromFile(files[0])
	if err != nil {
		return fmt.Errorf("CNI configuration %s: %w", files[0], err)
	}
	rt := &libcni.RuntimeConf{
		ContainerID: pod.containerID(), NetNS: pod.Netns, IfName: "eth0",
		Args: [][2]string{
			{"IgnoreUnknown", "1"},
			{"K8S_POD_NAMESPACE", pod.Namespace},
			{"K8S_POD_NAME", pod.Name},
			{"K8S_POD_INFRA_CONTAINER_ID", pod.containerID()},
			{"K8S_POD_UID", pod.UID},
		},
	}
	node, err := netns.Open(l.netnsPath(pod.Node))
	if err != nil {
		return err
	}
	defer node.Close()
	cni := libcni.NewCNIConfigWithCacheDir([]string{s.CNIDir, s.BinDir}, filepath.Join(l.NodeDir(pod.Node), "cni-cache"), nil)
	// Plugins are started by this goroutine, so they inherit the thread's network namespace.
	return node.Do(func() error { return run(cni, list, rt) })
}
