package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// powerOff: all nodes lose power at once. DNS, controller, agents, ztunnels and pods of the mesh each need another of these; all of
// them come back.
func powerOff() Check {
	return Check{"everything is rebooted", []Step{
		{"all that the mesh has and needs is up again", func(ctx context.Context, w *World) (string, error) {
			before := map[string]bool{}
			for _, namespace := range []string{"kube-system", "ambit-system", "inside"} {
				all, err := w.pods(ctx, namespace, "", life)
				if err != nil {
					return "", err
				}
				for _, pod := range all {
					before[pod] = true
				}
			}
			began := time.Now()
			failed := make([]error, len(w.nodes))
			var all sync.WaitGroup
			for i, node := range w.nodes {
				all.Go(func() { _, failed[i] = output(exec.CommandContext(ctx, w.Cluster, "reboot", "--dir="+w.Dir, node)) })
			}
			all.Wait()
			if err := errors.Join(failed...); err != nil {
				return "", err
			}
			count := 0
			if err := poll(ctx, 3*time.Minute, func() error {
				count = 0
				for _, namespace := range []string{"kube-system", "ambit-system", "inside"} {
					all, err := w.pods(ctx, namespace, "", life+`{{range .status.conditions}}{{if eq .type "Ready"}}!{{.status}}{{end}}{{end}}`)
					if err != nil {
						return err
					}
					for _, pod := range all {
						name, ready, _ := strings.Cut(pod, "!")
						if ready != "True" || before[name] {
							return fmt.Errorf("%s/%s: ready %s, restarted %v", namespace, name, ready, !before[name])
						}
						count++
					}
				}
				return nil
			}); err != nil {
				pods, _ := w.kubectl(context.WithoutCancel(ctx), "get", "pods", "-A", "-o", "wide") // to explain
				return pods, err
			}
			return fmt.Sprintf("%d pods ready within %s", count, time.Since(began).Round(time.Second)), nil
		}},
		{"pods are in the mesh", func(ctx context.Context, w *World) (string, error) {
			if err := w.annotated(ctx, "inside", "enabled"); err != nil {
				return "", err
			}
			return eventually(ctx, 30*time.Second, func() (string, error) { return w.in(ctx, "inside/client", "get", "http://server.inside/power") })
		}},
		{"and who is outside is refused", stillRefused},
	}}
}

// life of a pod, as a template for pods: other once it was restarted.
const life = `{{.metadata.uid}}{{range .status.containerStatuses}}/{{.restartCount}}{{end}}`

// stillRefused: STRICT holds.
func stillRefused(ctx context.Context, w *World) (string, error) {
	server, err := w.podIP(ctx, "inside", "app=server")
	if err != nil {
		return "", err
	}
	saw, err := w.in(ctx, "outside/stranger", "get", "http://"+server+":8080/still")
	if err == nil {
		return "", fmt.Errorf("answered: %s", saw)
	}
	return lastLines(err.Error()), nil
}
