package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// kubeSystem: a pod of the mesh reaches what every cluster has: its DNS in all ways, and the API server.
func kubeSystem() Check {
	resolves := func(name string, want func(ctx context.Context, w *World) (string, error), argv ...string) func(context.Context, *World) (string, error) {
		return func(ctx context.Context, w *World) (string, error) {
			ip, err := want(ctx, w)
			if err != nil {
				return "", err
			}
			saw, err := w.in(ctx, "inside/client", append(append([]string{"resolve"}, argv...), name)...)
			if err == nil && !strings.Contains(" "+saw+" ", " "+ip+" ") {
				err = fmt.Errorf("the answer lacks %s", ip)
			}
			return saw, err
		}
	}
	clusterIP := func(ctx context.Context, w *World) (string, error) {
		return w.kubectl(ctx, "-n", "inside", "get", "service/server", "-o", "jsonpath={.spec.clusterIP}")
	}
	return Check{"kube-dns and the API server", []Step{
		{"DNS over UDP", resolves("server.inside.svc.cluster.local.", clusterIP)},
		{"DNS over TCP", resolves("server.inside.svc.cluster.local.", clusterIP, "-tcp")},
		{"a headless name", resolves("headless.inside.svc.cluster.local.", func(ctx context.Context, w *World) (string, error) {
			return w.podIP(ctx, "inside", "app=server")
		})},
		{"what no Service of the mesh is called", func(ctx context.Context, w *World) (string, error) {
			saw, err := w.in(ctx, "inside/client", "resolve", "nobody.inside.svc.cluster.local.")
			if err == nil {
				return saw, errors.New("there is no such name")
			}
			if !strings.Contains(err.Error(), "no such host") {
				return "", err
			}
			return "no such host", nil
		}},
		{"a server of kube-dns itself, by its address", func(ctx context.Context, w *World) (string, error) {
			ip, err := w.podIP(ctx, "kube-system", "k8s-app=kube-dns")
			if err != nil {
				return "", err
			}
			return w.in(ctx, "inside/client", "get", "http://"+ip+":8080/health")
		}},
		{"the API server by its name", func(ctx context.Context, w *World) (string, error) {
			return w.version(ctx, "inside/client", "kubernetes.default")
		}},
		{"and by its own address", func(ctx context.Context, w *World) (string, error) {
			address, err := w.kubectl(ctx, "-n", "default", "get", "endpointslices", "-l", "kubernetes.io/service-name=kubernetes",
				"-o", "jsonpath={.items[0].endpoints[0].addresses[0]}:{.items[0].ports[0].port}")
			if err != nil {
				return "", err
			}
			return w.version(ctx, "inside/client", address)
		}},
	}}
}

// version asks an API server from a pod.
func (w *World) version(ctx context.Context, pod, address string) (string, error) {
	saw, err := w.in(ctx, pod, "get", "https://"+address+"/version")
	if err != nil {
		return "", err
	}
	_, version, ok := strings.Cut(saw, `"gitVersion": "`)
	version, _, _ = strings.Cut(version, `"`)
	if !strings.HasPrefix(saw, "200") || !ok {
		return saw, errors.New("no API server answered")
	}
	return version, nil
}
