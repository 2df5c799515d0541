package main

import (
	"context"
	"fmt"
	"time"
)

// leave: without its label the namespace leaves, and nothing of the mesh stays in its pods.
func leave() Check {
	return Check{"the namespace leaves", []Step{
		{"pods leave without a restart", func(ctx context.Context, w *World) (string, error) {
			before, err := w.lives(ctx, "inside")
			if err != nil {
				return "", err
			}
			if _, err := w.kubectl(ctx, "label", "namespace", "inside", "istio.io/dataplane-mode-"); err != nil {
				return "", err
			}
			if err := w.annotated(ctx, "inside", ""); err != nil {
				return "", err
			}
			after, err := w.lives(ctx, "inside")
			if err == nil && before != after {
				err = fmt.Errorf("%s before, %s after", before, after)
			}
			return "no pod is captured, none was restarted", err
		}},
		{"STRICT of a mesh they are not in binds them no more", func(ctx context.Context, w *World) (string, error) {
			server, err := w.podIP(ctx, "inside", "app=server")
			if err != nil {
				return "", err
			}
			return eventually(ctx, 20*time.Second, func() (string, error) { return w.in(ctx, "outside/stranger", "get", "http://"+server+":8080/left") })
		}},
	}}
}
