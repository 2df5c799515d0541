package main

import (
	"context"
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
		{"its taint is gone, so pods may be scheduled", untainted},
		{"and who is outside is still refused", stillRefused},
	}}
}
