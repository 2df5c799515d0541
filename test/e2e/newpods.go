package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// jobYAML is a pod whose first deed is a connection; it is not tried twice.
const jobYAML = `apiVersion: batch/v1
kind: Job
metadata: {name: first, namespace: inside}
spec:
  completions: 4
  parallelism: 4
  backoffLimit: 0
  template:
    spec:
      serviceAccountName: client
      restartPolicy: Never
      initContainers:
      - {name: init, image: "docker.io/ambit/e2e:dev", imagePullPolicy: IfNotPresent, args: [knock, "server.inside:7000"]}
      containers:
      - {name: main, image: "docker.io/ambit/e2e:dev", imagePullPolicy: IfNotPresent, args: [get, "http://server.inside/first"]}
`

// newPods: pods that start are in the mesh before their first packet: under STRICT, one past the mesh would be refused.
func newPods() Check {
	return Check{"new pods join before their first packet", []Step{
		{"Jobs of which each connection counts", func(ctx context.Context, w *World) (string, error) {
			since := time.Now()
			if err := w.apply(ctx, jobYAML); err != nil {
				return "", err
			}
			if _, err := w.kubectl(ctx, "-n", "inside", "wait", "--for=condition=Complete", "job/first", "--timeout=90s"); err != nil {
				logs, _ := w.kubectl(ctx, "-n", "inside", "logs", "job/first", "--all-containers", "--prefix") // to explain
				return "", fmt.Errorf("%w; %s", err, logs)
			}
			took := time.Since(since)
			if _, err := w.logged(ctx, "n2", since, `"src.workload":"first-`, `"src.identity":"spiffe://cluster.local/ns/inside/sa/client"`); err != nil {
				return "", err
			}
			_, err := w.kubectl(ctx, "-n", "inside", "delete", "job", "first")
			return fmt.Sprintf("4 pods, init containers too, done in %s", took.Round(time.Second)), err
		}},
		{"the plugin stands last in each node's CNI configuration", func(ctx context.Context, w *World) (string, error) {
			for _, node := range w.nodes {
				text, err := w.onNode(ctx, node, "cat", "/etc/cni/net.d/10-bridge.conflist")
				if err != nil {
					return "", err
				}
				if strings.LastIndex(text, `"portmap"`) > strings.LastIndex(text, `"ambit-cni"`) {
					return "", fmt.Errorf("%s: %s", node, text)
				}
			}
			return "bridge, portmap, ambit-cni", nil
		}},
	}}
}
