package main

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// reboot: a node that lost power comes back with its pods in the mesh, and STRICT holds from the first moment.
func reboot() Check {
	return Check{"a node is rebooted", []Step{
		{"its pods are in the mesh again", func(ctx context.Context, w *World) (string, error) {
			if _, err := w.kubectl(ctx, "taint", "node", "n2", "cni.istio.io/not-ready=:NoSchedule", "--overwrite"); err != nil {
				return "", err
			}
			if _, err := output(exec.CommandContext(ctx, w.Cluster, "reboot", "--dir="+w.Dir, "n2")); err != nil {
				return "", err
			}
			began := time.Now()
			saw := ""
			if err := poll(ctx, 3*time.Minute, func() (err error) {
				saw, err = w.in(ctx, "inside/client", "get", "http://server.inside/rebooted")
				return err
			}); err != nil {
				pods, _ := w.kubectl(context.WithoutCancel(ctx), "get", "pods", "-A", "-o", "wide") // to explain
				return strings.TrimSpace(pods), err
			}
			took := time.Since(began).Round(time.Second)
			if err := w.annotated(ctx, "inside", "enabled"); err != nil {
				return saw, err
			}
			return saw + " after " + took.String(), nil
		}},
		{"its taint is gone, so pods may be scheduled", func(ctx context.Context, w *World) (string, error) {
			return eventually(ctx, 90*time.Second, func() (string, error) {
				taints, err := w.kubectl(ctx, "get", "node", "n2", "-o", "jsonpath={.spec.taints[*].key}")
				if err == nil && strings.Contains(taints, "cni.istio.io/not-ready") {
					err = fmt.Errorf("taints %s", taints)
				}
				return "no cni.istio.io/not-ready", err
			})
		}},
		{"and who is outside is still refused", func(ctx context.Context, w *World) (string, error) {
			server, err := w.podIP(ctx, "inside", "app=server")
			if err != nil {
				return "", err
			}
			saw, err := w.in(ctx, "outside/stranger", "get", "http://"+server+":8080/still")
			if err == nil {
				return "", fmt.Errorf("answered: %s", saw)
			}
			return lastLines(err.Error()), nil
		}},
	}}
}
