package demo

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/ambit-mesh/ambit/test/netlab"
	"github.com/ambit-mesh/ambit/test/programs/result"
)

// Check 12: a pod with few source ports reaches at least as much through the mesh as without it.
func portRange() Check {
	many, short := []string{"--total", "500", "--width", "50", "--together"}, []string{"--total", "20000", "--width", "16"}
	return Check{ID: 12, Name: "200 source ports, 3 destinations: as many connections as without the mesh", Steps: []Step{
		{"500 at once, to pods of the mesh", func(ctx context.Context, w *World) (string, error) {
			return w.compare(ctx, inside, many)
		}},
		{"20,000 short ones, to pods of the mesh", func(ctx context.Context, w *World) (string, error) {
			return w.compare(ctx, inside, short)
		}},
		{"500 at once, to pods outside it", func(ctx context.Context, w *World) (string, error) {
			return w.compare(ctx, outside, many)
		}},
		{"20,000 short ones, to pods outside it", func(ctx context.Context, w *World) (string, error) {
			return w.compare(ctx, outside, short)
		}},
	}}
}

// compare runs the same client in a pod outside the mesh and in one of the mesh, each new, to three destinations: pods
// outside the mesh for the first, pods in the namespace for the second. Only connections that the mesh carried count for it.
func (w *World) compare(ctx context.Context, namespace string, args []string) (string, error) {
	reference, err := w.burst(ctx, "reference", outside, outside, args)
	if err != nil {
		return "", err
	}
	// Mesh to mesh is seen at the servers' node, mesh to outside at the client's.
	node, labels := "n2", map[string]string{"reporter": "destination", "connection_security_policy": "mutual_tls", "source_workload": "burst"}
	if namespace == outside {
		node, labels = "n1", map[string]string{"reporter": "source", "source_workload": "burst"}
	}
	before, err := w.opened(ctx, node, labels)
	if err != nil {
		return fmt.Sprintf("without the mesh: %d", reference.OK), err
	}
	meshed, err := w.burst(ctx, "burst", inside, namespace, args)
	if err != nil {
		return "", err
	}
	after, err := w.opened(ctx, node, labels)
	saw := fmt.Sprintf("in the mesh %d of %d (%.1f s), without it %d (%.1f s); the ztunnel on %s carried %.0f", meshed.OK, meshed.OK+meshed.Failed,
		meshed.Seconds, reference.OK, reference.Seconds, node, after-before)
	switch {
	case err != nil:
		return saw, err
	case after-before < float64(meshed.OK):
		return saw, errors.New("some went past the mesh")
	case meshed.OK < reference.OK:
		return saw, fmt.Errorf("fewer than without the mesh: %v", meshed.Errors)
	}
	return saw, nil
}

// burst makes three servers in a namespace and a client in another that has 200 source ports, and lets it connect.
func (w *World) burst(ctx context.Context, prefix, from, to string, args []string) (batch result.Batch, err error) {
	argv := append([]string{"conns", "--timeout", "4s"}, args...)
	specs := []netlab.PodSpec{podSpec(from, prefix, "n1")}
	// In the way a user narrows the range: a setting of the pod's namespace.
	specs[0].Sysctls = map[string]string{"net.ipv4.ip_local_port_range": "40000 40199"}
	for i := range 3 {
		specs = append(specs, podSpec(to, fmt.Sprintf("%s-%d", prefix, i+1), "n2"))
	}
	made, err := w.Lab.AddPods(ctx, specs...)
	defer func() {
		for _, pod := range made {
			err = errors.Join(err, w.Lab.DeletePod(context.WithoutCancel(ctx), pod.Ref()))
		}
	}()
	if err != nil {
		return batch, err
	}
	for _, pod := range made[1:] {
		if err := w.serve(ctx, pod, echoPort, "echo", "--quiet"); err != nil {
			return batch, err
		}
		argv = append(argv, fmt.Sprintf("%s:%d", pod.IP4(), echoPort))
	}
	if got, err := w.exec(ctx, made[0], "cat", "/proc/sys/net/ipv4/ip_local_port_range"); err != nil || strings.Join(strings.Fields(got), " ") != "40000 40199" {
		return batch, fmt.Errorf("the port range is %q: %w", got, err)
	}
	return run[result.Batch](ctx, w, made[0], argv...)
}
