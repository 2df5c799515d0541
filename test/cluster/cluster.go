package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// Cluster is a control plane on the machine, and nodes in namespaces of their own.
type Cluster struct {
	Plan
	Dir string // all its files; also the mark of its processes
	*Control
}

// Files that a cluster is given: its DNS server, and what the smoke test deploys.
var (
	//go:embed manifests/coredns.yaml
	corednsYAML string
	//go:embed manifests/hello.yaml
	helloYAML string
)

// at says what a cluster of a plan in a folder is; it starts nothing.
func (p Plan) at(dir, binary string) *Cluster {
	return &Cluster{Plan: p, Dir: dir, Control: &Control{
		Dir: dir, Binary: binary, Address: p.gateway()[0], Port: 6443,
		ServiceRange: p.serviceRange(), APIService: apiService, PodRange: p.podRange(),
	}}
}

// record is what up leaves for the other commands, in the cluster's folder.
type record struct {
	Plan   Plan
	Binary string
}

func recordFile(dir string) string { return filepath.Join(dir, "cluster.json") }

// clusterIn finds the cluster of a folder.
func clusterIn(dir string) (*Cluster, error) {
	text, err := os.ReadFile(recordFile(dir))
	if err != nil {
		return nil, err
	}
	var r record
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, fmt.Errorf("%s: %w", recordFile(dir), err)
	}
	return r.Plan.at(dir, r.Binary), nil
}

// clusterUp starts a cluster, unless it runs already, and tells how long each step took. What a crash left goes first.
func (t Tree) clusterUp(ctx context.Context, p Plan, dir string) (*Cluster, error) {
	if os.Getuid() != 0 {
		return nil, errors.New("a cluster needs root: it makes network namespaces and mounts")
	}
	binary, err := t.kubernetes(ctx)
	if err != nil {
		return nil, err
	}
	c := p.at(dir, binary)
	if old, err := clusterIn(dir); err == nil && old.running(ctx) {
		if !reflect.DeepEqual(old.Plan, p) {
			return nil, fmt.Errorf("another cluster runs in %s: %d nodes, dual %v; end it first", dir, len(old.Nodes), old.Dual)
		}
		return old, old.ready(ctx)
	}
	files, err := t.crds(ctx)
	if err != nil {
		return nil, err
	}
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"what an earlier one left", func(ctx context.Context) error { return errors.Join(p.down(ctx, dir), os.MkdirAll(dir, 0o755)) }},
		{"images", func(ctx context.Context) error { return t.images(ctx, c.file("images")) }},
		{"control plane", func(ctx context.Context) error { return errors.Join(p.bridgeUp(), c.start(ctx)) }},
		{"nodes", c.startNodes},
		{"the mesh's resources", func(ctx context.Context) error { return c.installCRDs(ctx, files) }},
		{"load balancer, DNS", c.startAddons},
		{"all of it ready", c.ready},
	} {
		began := time.Now()
		ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
		err := step.do(ctx)
		cancel()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", step.name, err)
		}
		fmt.Fprintf(os.Stderr, "%6.1f s  %s\n", time.Since(began).Seconds(), step.name)
	}
	text, err := json.Marshal(record{p, binary})
	if err != nil {
		return nil, err
	}
	return c, os.WriteFile(recordFile(dir), text, 0o644) // last: a cluster without it never came up
}

// startNodes makes the nodes' objects, with their pod ranges, and starts their kubelets.
func (c *Cluster) startNodes(ctx context.Context) error {
	for _, n := range c.Nodes {
		if err := c.ca.issue(n.Name, Subject{User: "system:node:" + n.Name, Group: "system:nodes", Hosts: append([]string{n.Name}, n.IPs...)}); err != nil {
			return err
		}
		if err := c.ca.kubeconfig(c.file(n.Name+".kubeconfig"), c.server(), n.Name); err != nil {
			return err
		}
		object := fmt.Sprintf(`{"apiVersion": "v1", "kind": "Node", "metadata": {"name": %q}, "spec": {"podCIDR": %q, "podCIDRs": ["%s"]}}`,
			n.Name, n.Ranges[0], strings.Join(n.Ranges, `", "`))
		if _, err := c.kubectl(ctx, strings.NewReader(object), "create", "-f", "-"); err != nil {
			return err
		}
		if err := c.startNode(ctx, n); err != nil {
			return fmt.Errorf("node %s: %w", n.Name, err)
		}
	}
	return nil
}

func (c *Cluster) spec(n Node) NodeSpec {
	return NodeSpec{Node: n, Cluster: c.name(), Dir: filepath.Join(c.Dir, "nodes", n.Name), Images: c.file("images"), Binary: c.Binary}
}

func (c *Cluster) startNode(ctx context.Context, n Node) error {
	spec := c.spec(n)
	keeper, err := spec.start()
	if err != nil {
		return err
	}
	var pid int
	if err := keeper.until(ctx, func(context.Context) (err error) { pid, err = spec.pid(); return err }); err != nil {
		return err
	}
	return c.connect(n, pid)
}

// startAddons deploys DNS, and starts what gives Services of type LoadBalancer their addresses.
func (c *Cluster) startAddons(ctx context.Context) error {
	if _, err := c.kubectl(ctx, strings.NewReader(corednsYAML), "apply", "--server-side", "-f", "-"); err != nil {
		return err
	}
	if _, err := c.kubectl(ctx, nil, "create", "clusterrolebinding", "kubelet-api-admin", "--clusterrole=system:kubelet-api-admin", "--user=kube-apiserver-kubelet-client"); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	_, err = start(c.Dir, "loadbalancer", []string{self, "loadbalancer", "--dir=" + c.Dir, "--number=" + strconv.Itoa(c.Number)})
	return err
}

// ready waits until every node is, and DNS.
func (c *Cluster) ready(ctx context.Context) error {
	if _, err := c.kubectl(ctx, nil, "wait", "--for=condition=Ready", "node", "--all", "--timeout=120s"); err != nil {
		return err
	}
	_, err := c.kubectl(ctx, nil, "-n", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=120s")
	return err
}

// down ends the cluster of a plan and leaves nothing behind. It is right after any crash, and when there is nothing to do.
func (p Plan) down(ctx context.Context, dir string) error {
	if err := killAll(ctx, dir, 0); err != nil {
		return err
	}
	all, err := machineHierarchies()
	if err != nil {
		return err
	}
	return errors.Join(removeCgroups(all, p.name()), p.bridgeDown(), os.RemoveAll(dir))
}
