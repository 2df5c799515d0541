package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// uninstall: the mesh goes while pods are in it, leaves the nodes clean, and traffic goes on.
func uninstall() Check {
	return Check{"uninstall", []Step{
		{"from the nodes first, with pods in the mesh", func(ctx context.Context, w *World) (string, error) {
			if _, err := w.kubectl(ctx, "label", "namespace", "inside", "istio.io/dataplane-mode=ambient", "--overwrite"); err != nil {
				return "", err
			}
			if err := w.annotated(ctx, "inside", "enabled"); err != nil {
				return "", err
			}
			dir, err := w.chart(ctx, "uninstall", "agent.uninstall=true")
			if err != nil {
				return "", err
			}
			text, err := os.ReadFile(filepath.Join(dir, "ambit.yaml"))
			if err != nil {
				return "", err
			}
			if err := w.apply(ctx, string(text)); err != nil {
				return "", err
			}
			return "", w.meshReady(ctx)
		}},
		{"then from the cluster", func(ctx context.Context, w *World) (string, error) {
			_, err := w.kubectl(ctx, "delete", "--timeout=120s", "-f", filepath.Join(w.Work, "uninstall", "ambit.yaml"))
			return "", err
		}},
		{"nothing of it is on the nodes", func(ctx context.Context, w *World) (string, error) {
			var errs []error
			for _, node := range w.nodes {
				for what, script := range map[string]string{
					"pins":              `find /sys/fs/bpf -mindepth 1 ! -name "*.debug"`, // the kernel's own
					"CNI configuration": `grep -rl ambit /etc/cni/net.d`,
					"CNI plugin":        `ls /opt/cni/bin | grep ambit`,
					"files":             `find /run/ambit -not -type d`,
				} {
					out, err := w.onNode(ctx, node, "sh", "-c", script+" || true")
					if err == nil && strings.TrimSpace(out) != "" {
						err = errors.New(lastLines(out))
					}
					if err != nil {
						errs = append(errs, fmt.Errorf("%s: %s: %w", node, what, err))
					}
				}
			}
			return "no pins, plugin, configuration, files", errors.Join(errs...)
		}},
		{"annotations are gone, pods run on, traffic flows in the clear", func(ctx context.Context, w *World) (string, error) {
			if err := w.annotated(ctx, "inside", ""); err != nil {
				return "", err
			}
			return eventually(ctx, 20*time.Second, func() (string, error) { return w.in(ctx, "inside/client", "get", "http://server.inside/uninstalled") })
		}},
		{"pods start as before", func(ctx context.Context, w *World) (string, error) {
			if _, err := w.kubectl(ctx, "-n", "inside", "rollout", "restart", "deployment/server"); err != nil {
				return "", err
			}
			_, err := w.kubectl(ctx, "-n", "inside", "rollout", "status", "deployment/server", "--timeout=90s")
			return "", err
		}},
	}}
}
