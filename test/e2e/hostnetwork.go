package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

const hostNetworkYAML = `apiVersion: v1
kind: Pod
metadata: {name: on-host, namespace: inside, labels: {app: on-host}}
spec:
  hostNetwork: true
  dnsPolicy: ClusterFirstWithHostNet
  nodeSelector: {kubernetes.io/hostname: n2}
  terminationGracePeriodSeconds: 0
  containers:
  - {name: main, image: "docker.io/ambit/e2e:dev", imagePullPolicy: IfNotPresent, args: [serve]}
`

// hostNetwork: a pod in its node's own network is left alone, though its namespace is in the mesh: it is reached and reaches others
// as before.
func hostNetwork() Check {
	from := func(what, pod, url, want string) Step {
		return Step{what, func(ctx context.Context, w *World) (string, error) {
			saw, err := w.in(ctx, pod, "get", url)
			if err == nil && !strings.Contains(saw, want) {
				err = fmt.Errorf("the answer lacks %q", want)
			}
			return saw, err
		}}
	}
	ofNode := func(what, pod string) Step {
		return Step{what, func(ctx context.Context, w *World) (string, error) {
			ip, err := w.podIP(ctx, "inside", "app=on-host")
			if err != nil {
				return "", err
			}
			return w.in(ctx, pod, "get", "http://"+ip+":8080/host")
		}}
	}
	return Check{"pods in the node's network", []Step{
		{"one in a namespace of the mesh is not captured", func(ctx context.Context, w *World) (string, error) {
			if err := w.apply(ctx, hostNetworkYAML); err != nil {
				return "", err
			}
			if _, err := w.kubectl(ctx, "-n", "inside", "wait", "--for=condition=Ready", "pod/on-host", "--timeout=60s"); err != nil {
				return "", err
			}
			return eventually(ctx, 10*time.Second, func() (string, error) {
				s, err := w.agent(ctx, "n2")
				if err != nil {
					return "", err
				}
				for _, p := range s.Pods {
					if p.Name == "on-host" && p.Reason == "HostNetwork" && !p.Enrolled {
						return "outside, " + p.Reason, nil
					}
				}
				return "", errors.New("the agent does not say that it is outside")
			})
		}},
		from("it reaches a Service of the mesh", "inside/on-host", "http://server.inside/host", "200 server-"),
		from("and one outside of it", "inside/on-host", "http://stranger.outside:8080/host", "200 stranger"),
		{"and the API server", func(ctx context.Context, w *World) (string, error) {
			return w.version(ctx, "inside/on-host", "kubernetes.default.svc")
		}},
		ofNode("a pod of the mesh reaches it", "inside/client"),
		ofNode("and one outside", "outside/stranger"),
		{"it goes", func(ctx context.Context, w *World) (string, error) {
			return w.kubectl(ctx, "-n", "inside", "delete", "pod", "on-host", "--timeout=60s")
		}},
	}}
}
