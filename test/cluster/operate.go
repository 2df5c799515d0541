package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// node finds a node by its name.
func (c *Cluster) node(name string) (Node, error) {
	i := slices.IndexFunc(c.Nodes, func(n Node) bool { return n.Name == name })
	if i < 0 {
		return Node{}, fmt.Errorf("no node %s", name)
	}
	return c.Nodes[i], nil
}

// inNode prepares a command that will run in all of a node's namespaces.
func (c *Cluster) inNode(ctx context.Context, name string, argv ...string) (*exec.Cmd, error) {
	n, err := c.node(name)
	if err != nil {
		return nil, err
	}
	pid, err := c.spec(n).pid()
	if err != nil {
		return nil, fmt.Errorf("node %s does not run: %w", name, err)
	}
	args := []string{"--target=" + strconv.Itoa(pid), "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--"}
	return exec.CommandContext(ctx, "nsenter", append(args, argv...)...), nil
}

// load gives image tarballs to all nodes, and keeps them for nodes that reboot.
func (c *Cluster) load(ctx context.Context, files []string) error {
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		kept := filepath.Join(c.file("images"), filepath.Base(f))
		if err := os.WriteFile(kept, text, 0o644); err != nil {
			return err
		}
		for _, n := range c.Nodes {
			cmd, err := c.inNode(ctx, n.Name, "ctr", "--address="+containerdSocket, "--namespace=k8s.io", "images", "import", kept)
			if err != nil {
				return err
			}
			if out, err := cmd.CombinedOutput(); err != nil {
				return fmt.Errorf("load %s on %s: %w: %s", f, n.Name, err, out)
			}
		}
	}
	return nil
}

// reboot pulls a node's plug: all its processes die at once, its namespaces and mounts with them. Then it starts again with
// what was on its disk; or, with wipe, with an empty one, as a new machine in the old one's place.
func (c *Cluster) reboot(ctx context.Context, name string, wipe bool) error {
	n, err := c.node(name)
	if err != nil {
		return err
	}
	spec := c.spec(n)
	pid, err := spec.pid()
	if err != nil {
		return err
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("end node %s: %w", name, err)
	}
	if err := os.Remove(spec.pidFile()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := waitFor(ctx, "the node's end", func() error { return c.unlinked(n) }); err != nil {
		return err
	}
	// As on a machine that boots, no pod's group is left: the kubelet would spend three seconds on each.
	all, err := machineHierarchies()
	if err != nil {
		return err
	}
	if err := removeCgroups(all, filepath.Join(c.name(), n.Name)); err != nil {
		return err
	}
	if wipe {
		if err := os.RemoveAll(spec.Dir); err != nil {
			return err
		}
	}
	return c.startNode(ctx, n)
}

// status prints what Kubernetes says of itself, and what runs on the machine.
func (c *Cluster) status(ctx context.Context) error {
	for _, args := range [][]string{{"get", "nodes", "-o", "wide"}, {"get", "pods", "-A", "-o", "wide"}, {"get", "services", "-A"}} {
		out, err := c.kubectl(ctx, nil, args...)
		if err != nil {
			return fmt.Errorf("no cluster answers in %s: %w", c.Dir, err)
		}
		fmt.Println(out)
	}
	pids, err := processesOf(c.Dir)
	if err != nil {
		return err
	}
	fmt.Printf("%d processes; kubeconfig %s; logs %s\n", len(pids), c.Kubeconfig(), c.file("log"))
	return nil
}

// smoke proves that a cluster is one: two pods on two nodes answer through a Service by its DNS name, and from the machine
// by its LoadBalancer address.
func (c *Cluster) smoke(ctx context.Context) error {
	if _, err := c.kubectl(ctx, strings.NewReader(helloYAML), "apply", "--server-side", "-f", "-"); err != nil {
		return err
	}
	if _, err := c.kubectl(ctx, nil, "-n", "smoke", "rollout", "status", "deployment/hello", "--timeout=120s"); err != nil {
		return err
	}
	nodes, err := c.kubectl(ctx, nil, "-n", "smoke", "get", "pods", "-o", "jsonpath={range .items[*]}{.spec.nodeName}{\"\\n\"}{end}")
	if err != nil {
		return err
	}
	if on := strings.Fields(nodes); len(on) != 2 || on[0] == on[1] {
		return fmt.Errorf("the pods are on %v: want two nodes", on)
	}
	answered := map[string]bool{}
	if err := waitFor(ctx, "answers of both pods", func() error {
		name, err := c.fromPod(ctx, "hello.smoke.svc.cluster.local")
		if err != nil {
			return err
		}
		if answered[name] = true; len(answered) < 2 {
			return fmt.Errorf("only from %v", answered)
		}
		return nil
	}); err != nil {
		return err
	}
	clusterIPs, err := c.kubectl(ctx, nil, "-n", "smoke", "get", "service/hello", "-o", "jsonpath={.spec.clusterIPs[*]}")
	if err != nil {
		return err
	}
	if got := strings.Fields(clusterIPs); len(got) != len(c.gateway()) {
		return fmt.Errorf("the service has addresses %v: want one of each family", got)
	}
	for _, ip := range strings.Fields(clusterIPs) {
		if err := waitFor(ctx, "an answer at "+ip, func() error { _, err := c.fromPod(ctx, net.JoinHostPort(ip, "80")); return err }); err != nil {
			return err
		}
	}
	address, err := c.kubectl(ctx, nil, "-n", "smoke", "get", "service/hello", "-o", "jsonpath={.status.loadBalancer.ingress[0].ip}")
	if err != nil {
		return err
	}
	if err := waitFor(ctx, "an answer at the outside address", func() error {
		return healthy(&http.Client{Timeout: 5 * time.Second}, "http://"+address+"/")(ctx)
	}); err != nil {
		return err
	}
	fmt.Printf("by DNS name from %d pods on 2 nodes; inside at %s; outside at %s\n", len(answered), clusterIPs, address)
	_, err = c.kubectl(ctx, nil, "delete", "namespace", "smoke")
	return err
}

// fromPod asks a host over HTTP from one of the smoke test's pods.
func (c *Cluster) fromPod(ctx context.Context, host string) (string, error) {
	answer, err := c.kubectl(ctx, nil, "-n", "smoke", "exec", "deployment/hello", "--", "/hello", "-get", "http://"+host+"/")
	return strings.TrimSpace(answer), err
}
