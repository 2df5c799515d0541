package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ambit-mesh/ambit/test/bench/figure"
	"github.com/ambit-mesh/ambit/test/bench/load"
	"github.com/ambit-mesh/ambit/test/netlab"
	"github.com/ambit-mesh/ambit/test/netlab/mesh"
)

// rig is a lab with the mesh and, for each path and place, a client and a server.
type rig struct {
	lab  *netlab.Lab
	mesh *mesh.Mesh
	self string // this program, run in pods
	way  map[figure.Path]map[figure.Where]way
	// serverIP is the floor's server on the other node.
	serverIP string
}

// way is how one client reaches one server.
type way struct {
	client string // pod
	host   string // what the client connects to
}

var namespaces = map[figure.Path]string{figure.NoMesh: "bench-plain", figure.Floor: "bench-floor", figure.Ambit: "bench-ambit"}

// newRig builds everything. The caller takes it down, also after an error.
func newRig(ctx context.Context) (*rig, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	build := filepath.Dir(filepath.Dir(self))
	r := &rig{self: self, way: map[figure.Path]map[figure.Where]way{}}
	r.lab, err = netlab.Up(ctx, netlab.Config{Name: "bench", BinDir: filepath.Join(build, "bin"), CNIDir: filepath.Join(build, "cni")})
	if err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	if r.mesh, err = mesh.Start(ctx, r.lab, mesh.Options{}); err != nil {
		return r, fmt.Errorf("mesh: %w", err)
	}
	for _, path := range figure.Paths() {
		if err := r.pods(ctx, path); err != nil {
			return r, fmt.Errorf("pods of %s: %w", path, err)
		}
	}
	return r, nil
}

func (r *rig) down() error {
	if r == nil || r.lab == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return r.lab.Down(ctx)
}

// pods makes the clients and servers of one path: the floor's clients each have a proxy of their own beside them.
func (r *rig) pods(ctx context.Context, path figure.Path) error {
	ns := namespaces[path]
	labels := map[string]string{}
	if path == figure.Ambit {
		labels["istio.io/dataplane-mode"] = "ambient"
	}
	if err := r.lab.SetNamespace(ns, labels); err != nil {
		return err
	}
	r.way[path] = map[figure.Where]way{}
	for where, node := range map[figure.Where]string{figure.CrossNode: "n2", figure.SameNode: "n1"} {
		server, err := r.lab.AddPod(ctx, netlab.PodSpec{Namespace: ns, Name: "server-" + node, Node: node})
		if err != nil {
			return err
		}
		client, err := r.lab.AddPod(ctx, netlab.PodSpec{Namespace: ns, Name: "client-" + string(where), Node: "n1"})
		if err != nil {
			return err
		}
		if err := r.reusePorts(ctx, server.Ref(), client.Ref()); err != nil {
			return err
		}
		if err := r.start(ctx, server.Ref(), load.EchoPort, "server"); err != nil {
			return err
		}
		host := server.IP4().String()
		if path == figure.Floor {
			if err := r.start(ctx, server.Ref(), load.EchoPort+secured, "floor-in"); err != nil {
				return err
			}
			if err := r.start(ctx, client.Ref(), load.EchoPort, "floor-out", host); err != nil {
				return err
			}
			if where == figure.CrossNode {
				r.serverIP = host
			}
			host = "127.0.0.1"
		}
		r.way[path][where] = way{client: client.Ref(), host: host}
	}
	return nil
}

// reusePorts lets new connections take ports of ended ones after a second, as enrolled pods do: without it the clients outside
// the mesh run out of ports in the second run and look slower than they are.
func (r *rig) reusePorts(ctx context.Context, pods ...string) error {
	for _, pod := range pods {
		out, err := r.lab.Exec(ctx, netlab.Spec{Pod: pod, Argv: []string{"sh", "-c", "echo 1 > /proc/sys/net/ipv4/tcp_tw_reuse"}})
		if err = errors.Join(err, out.Err()); err != nil {
			return fmt.Errorf("ports of pod %s: %w", pod, err)
		}
	}
	return nil
}

// processName is unique in the lab: a pod runs a role once.
func processName(pod, role string) string { return strings.ReplaceAll(pod, "/", "-") + "-" + role }

// start runs a role of this program in a pod and waits until it listens.
func (r *rig) start(ctx context.Context, pod string, port int, role ...string) error {
	p, err := r.lab.Start(netlab.Spec{Name: processName(pod, role[0]), Pod: pod, Argv: append([]string{r.self}, role...)})
	if err != nil {
		return err
	}
	return r.lab.WaitListening(ctx, p, port, 20*time.Second)
}

// run lets the client of a path do a job.
func (r *rig) run(ctx context.Context, path figure.Path, where figure.Where, job load.Job) (load.Result, error) {
	var result load.Result
	w := r.way[path][where]
	job.Host = w.host
	text, err := json.Marshal(job)
	if err != nil {
		return result, err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	out, err := r.lab.Exec(ctx, netlab.Spec{Pod: w.client, Argv: []string{r.self, "client", string(text)}})
	if err == nil {
		err = out.Err()
	}
	if err != nil {
		return result, err
	}
	return result, json.Unmarshal([]byte(out.Stdout), &result)
}
