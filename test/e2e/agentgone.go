package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

const lateYAML = `apiVersion: v1
kind: Pod
metadata: {name: late, namespace: inside, labels: {app: late}}
spec:
  restartPolicy: Never
  nodeSelector: {kubernetes.io/hostname: n2}
  containers:
  - {name: main, image: "docker.io/ambit/e2e:dev", imagePullPolicy: IfNotPresent, args: [get, "-within=60s", "http://db-0.db.inside:8080/late"]}
`

// agentGone: on a node whose agent is deleted, what runs goes on, and no pod starts outside the mesh; with a new agent it does start.
func agentGone() Check {
	var stop func() (string, error)
	onN2 := func(ctx context.Context, w *World) (string, error) {
		return w.kubectl(ctx, "-n", "ambit-system", "get", "pods", "-l", "app=ambit-agent", "--field-selector=spec.nodeName=n2", "-o", "name")
	}
	return Check{"a node's agent is deleted", []Step{
		{"no new pod starts on the node, and an event says why", func(ctx context.Context, w *World) (saw string, err error) {
			if stop, err = w.during(context.WithoutCancel(ctx), "inside/client", "hold", "server.inside:7000"); err != nil { // into the next step
				return "", err
			}
			if _, err := w.kubectl(ctx, append(append([]string{"label", "--overwrite", "node"}, w.others("n2")...), "e2e=agent")...); err != nil {
				return "", err
			}
			if _, err := w.kubectl(ctx, "-n", "ambit-system", "patch", "daemonset", "ambit-agent", "--type=merge", "-p",
				`{"spec": {"updateStrategy": {"type": "OnDelete", "rollingUpdate": null}, "template": {"spec": {"nodeSelector": {"e2e": "agent"}}}}}`); err != nil {
				return "", err
			}
			if err := poll(ctx, time.Minute, func() error {
				names, err := onN2(ctx, w)
				if err == nil && names != "" {
					err = fmt.Errorf("%s is there", names)
				}
				return err
			}); err != nil {
				return "", err
			}
			if err := w.apply(ctx, lateYAML); err != nil {
				return "", err
			}
			return eventually(ctx, 90*time.Second, func() (string, error) {
				said, err := w.kubectl(ctx, "-n", "inside", "get", "events", "--field-selector=involvedObject.name=late,reason=FailedCreatePodSandBox", "-o", "jsonpath={.items[*].message}")
				if err == nil && !strings.Contains(said, "ambit-cni") {
					err = fmt.Errorf("events: %q", said)
				}
				return lastLines(said), err
			})
		}},
		{"with a new agent it starts, in the mesh; the live connection went on", func(ctx context.Context, w *World) (string, error) {
			if _, err := w.kubectl(ctx, "-n", "ambit-system", "patch", "daemonset", "ambit-agent", "--type=json", "-p",
				`[{"op": "remove", "path": "/spec/template/spec/nodeSelector/e2e"},
				{"op": "replace", "path": "/spec/updateStrategy", "value": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "10%"}}}]`); err != nil {
				return "", err
			}
			began := time.Now()
			if _, err := w.kubectl(ctx, "-n", "inside", "wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/late", "--timeout=150s"); err != nil {
				return "", err
			}
			took := time.Since(began).Round(time.Second)
			if err := w.meshReady(ctx); err != nil {
				return "", err
			}
			if _, err := w.kubectl(ctx, "-n", "inside", "delete", "pod", "late", "--timeout=60s"); err != nil {
				return "", err
			}
			if stop == nil {
				return "", fmt.Errorf("no connection was made")
			}
			held, err := stop()
			if err == nil && held == "" {
				err = fmt.Errorf("the held connection says nothing")
			}
			return fmt.Sprintf("done %s after the agent could come; %s", took, held), err
		}},
	}}
}
