package main

import (
	"context"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ambit-mesh/ambit/test/bench/figure"
	"github.com/ambit-mesh/ambit/test/bench/load"
	"github.com/ambit-mesh/ambit/test/netlab/mesh"
)

// freshProxy starts the proxy of one side anew, so that its memory holds nothing of earlier measurements, and returns the name
// of its process.
func (r *rig) freshProxy(ctx context.Context, path figure.Path, side, node string) (string, error) {
	if path == figure.Ambit {
		name := mesh.ZtunnelName(node)
		if err := r.mesh.Kill(ctx, name); err != nil {
			return "", err
		}
		if err := r.mesh.StartZtunnel(ctx, node); err != nil {
			return "", err
		}
		return name, r.mesh.WaitReady(ctx, node, 30*time.Second)
	}
	w := r.way[path][figure.CrossNode]
	pod, role := w.client, []string{"floor-out", r.serverIP}
	port := load.EchoPort
	if side == "inbound" {
		pod, role, port = namespaces[path]+"/server-n2", []string{"floor-in"}, load.EchoPort+secured
	}
	name := processName(pod, role[0])
	p, err := r.lab.Process(name)
	if err != nil {
		return "", err
	}
	if err := p.Stop(ctx, unix.SIGKILL, 10*time.Second); err != nil {
		return "", err
	}
	return name, r.start(ctx, pod, port, role...)
}
