package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strings"
)

//go:embed manifests/probed.yaml
var probedYAML string

// hooks: under STRICT every kind of probe passes as startup, readiness and liveness probe, and so do lifecycle hooks over HTTP.
func hooks() Check {
	return Check{"lifecycle hooks, and each probe of each kind, under STRICT", []Step{
		{"a pod that has them all becomes ready", func(ctx context.Context, w *World) (string, error) {
			before, err := w.outcome(ctx, "n2", "probe_admitted")
			if err != nil {
				return "", err
			}
			if err := w.apply(ctx, probedYAML); err != nil {
				return "", err
			}
			if _, err := w.kubectl(ctx, "-n", "inside", "wait", "--for=condition=Ready", "pod/probed", "--timeout=60s"); err != nil {
				events, _ := w.kubectl(ctx, "-n", "inside", "get", "events", "--field-selector=involvedObject.name=probed") // to explain
				return events, err
			}
			after, err := w.outcome(ctx, "n2", "probe_admitted")
			if err == nil && after <= before {
				err = errors.New("no probe was told from other plaintext")
			}
			return fmt.Sprintf("startup, readiness, liveness by HTTP, TCP, gRPC, exec; %.0f connections of probes on its node", after-before), err
		}},
		{"its hooks over HTTP were asked, at its start and its end", func(ctx context.Context, w *World) (string, error) {
			life, err := w.kubectl(ctx, "-n", "inside", "get", "pod", "probed", "-o", "jsonpath={.status.containerStatuses[*].restartCount}")
			if err == nil && strings.Trim(life, "0 ") != "" {
				err = fmt.Errorf("containers were restarted: %s", life)
			}
			if err != nil {
				return "", err
			}
			logs := w.kubectlCommand(ctx, "-n", "inside", "logs", "-f", "probed", "-c", "main")
			var said strings.Builder
			logs.Stdout = &said
			if err := logs.Start(); err != nil {
				return "", err
			}
			if _, err := w.kubectl(ctx, "-n", "inside", "delete", "pod", "probed", "--timeout=60s"); err != nil {
				return "", errors.Join(err, logs.Process.Kill(), logs.Wait())
			}
			if err := logs.Wait(); err != nil { // ends with the container
				return said.String(), err
			}
			for _, hook := range []string{"/hook/start", "/hook/stop"} {
				if !strings.Contains(said.String(), hook) {
					return said.String(), errors.New(hook + " was not asked for")
				}
			}
			failed, err := w.kubectl(ctx, "-n", "inside", "get", "events", "-o", `jsonpath={range .items[?(@.involvedObject.name=="probed")]}{.reason} {end}`)
			if err == nil && (strings.Contains(failed, "Hook") || strings.Contains(failed, "Killing")) && strings.Contains(failed, "Failed") {
				err = fmt.Errorf("events: %s", failed)
			}
			return lastLines(said.String()), err
		}},
	}}
}
