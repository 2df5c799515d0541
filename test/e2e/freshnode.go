package main

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// earlyYAML wants to run on the second node before that has anything of the mesh. Its server is on the first.
const earlyYAML = `apiVersion: batch/v1
kind: Job
metadata: {name: early, namespace: inside}
spec:
  backoffLimit: 0
  template:
    spec:
      serviceAccountName: client
      restartPolicy: Never
      nodeSelector: {kubernetes.io/hostname: n2}
      initContainers:
      - {name: init, image: "docker.io/ambit/e2e:dev", imagePullPolicy: IfNotPresent, args: [knock, "-within=60s", "db-0.db.inside:7000"]}
      containers:
      - {name: main, image: "docker.io/ambit/e2e:dev", imagePullPolicy: IfNotPresent, args: [get, "http://db-0.db.inside:8080/early"]}
`

// freshNode: a new machine joins the cluster, tainted as its makers are told to: no pod starts there before the agent is ready, and
// the first packet of the first one is in the mesh.
func freshNode() Check {
	return Check{"a new node", []Step{
		{"a Job that waits for it is in the mesh from its first packet", func(ctx context.Context, w *World) (string, error) {
			if _, err := w.kubectl(ctx, "taint", "node", "n2", "cni.istio.io/not-ready=:NoSchedule", "--overwrite"); err != nil {
				return "", err
			}
			if _, err := output(exec.CommandContext(ctx, w.Cluster, "reboot", "--wipe", "--dir="+w.Dir, "n2")); err != nil {
				return "", err
			}
			since := time.Now()
			if err := w.apply(ctx, earlyYAML); err != nil {
				return "", err
			}
			if _, err := w.kubectl(ctx, "-n", "inside", "wait", "--for=condition=Complete", "job/early", "--timeout=150s"); err != nil {
				logs, _ := w.kubectl(ctx, "-n", "inside", "logs", "job/early", "--all-containers", "--prefix") // to explain
				return logs, err
			}
			took := time.Since(since).Round(time.Second)
			line, err := w.logged(ctx, "n1", since, `"src.workload":"early-`, `"direction":"inbound"`)
			if err != nil {
				return "", err
			}
			_, err = w.kubectl(ctx, "-n", "inside", "delete", "job", "early")
			return fmt.Sprintf("done %s after the node began to boot; %s", took, field(line, "src.identity")), err
		}},
		{"its taint is gone", untainted},
	}}
}

// untainted waits until the second node may have pods.
func untainted(ctx context.Context, w *World) (string, error) {
	return eventually(ctx, 90*time.Second, func() (string, error) {
		taints, err := w.kubectl(ctx, "get", "node", "n2", "-o", "jsonpath={.spec.taints[*].key}")
		if err == nil && strings.Contains(taints, "cni.istio.io/not-ready") {
			err = fmt.Errorf("taints %s", taints)
		}
		return "no cni.istio.io/not-ready", err
	})
}
