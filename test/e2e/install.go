package main

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

//go:embed manifests/workloads.yaml
var workloadsYAML string

// install: pods run before the mesh comes, and its installation is images, resource definitions and one manifest.
func install() Check {
	return Check{"install", []Step{
		{"images on the nodes, workloads without a mesh", func(ctx context.Context, w *World) (string, error) {
			var tarballs []string
			for _, image := range []string{"agent", "ztunnel", "controller", "e2e"} {
				tarballs = append(tarballs, filepath.Join(w.Tree, "build/images", image+".tar"))
			}
			if _, err := output(exec.CommandContext(ctx, w.Cluster, append([]string{"load", "--dir=" + w.Dir}, tarballs...)...)); err != nil {
				return "", err
			}
			if err := w.apply(ctx, workloadsYAML); err != nil {
				return "", err
			}
			if err := w.workloadsReady(ctx); err != nil {
				return "", err
			}
			// A Service's rules come to a node a moment after its pods.
			return eventually(ctx, 20*time.Second, func() (string, error) { return w.in(ctx, "inside/client", "get", "http://server.inside/before") })
		}},
		{"definitions and manifests applied, all of it ready", func(ctx context.Context, w *World) (string, error) {
			began := time.Now()
			dir, err := w.chart(ctx, "chart")
			if err != nil {
				return "", err
			}
			for _, file := range []string{"crds.yaml", "ambit.yaml"} {
				text, err := os.ReadFile(filepath.Join(dir, file))
				if err != nil {
					return "", err
				}
				if err := w.apply(ctx, string(text)); err != nil {
					return "", err
				}
			}
			return fmt.Sprintf("ready %s after the first kubectl apply", time.Since(began).Round(time.Second)), w.meshReady(ctx)
		}},
		{"each agent is ready and knows its kubelet", func(ctx context.Context, w *World) (string, error) {
			var saw []string
			for _, node := range w.nodes {
				if err := poll(ctx, time.Minute, func() error {
					s, err := w.agent(ctx, node)
					switch {
					case err != nil:
						return err
					case !s.Ready || !strings.HasPrefix(s.Kubelet, "identified"):
						return fmt.Errorf("%s: ready %v, missing %v, kubelet %s", node, s.Ready, s.Missing, s.Kubelet)
					}
					saw = append(saw, node+": kubelet "+s.Kubelet)
					return nil
				}); err != nil {
					return strings.Join(saw, ", "), err
				}
			}
			return strings.Join(saw, ", "), nil
		}},
		{"nobody is in the mesh yet, and traffic flows", func(ctx context.Context, w *World) (string, error) {
			if err := w.annotated(ctx, "inside", ""); err != nil {
				return "", err
			}
			return w.in(ctx, "inside/client", "get", "http://server.inside/unlabelled")
		}},
	}}
}

// chart renders the chart with these values to a folder of its own, and answers that.
func (w *World) chart(ctx context.Context, name string, set ...string) (dir string, err error) {
	dir = filepath.Join(w.Work, name)
	args := []string{"-C", filepath.Join(w.Tree, "deploy/chart"), "run", ".", "--source", w.Tree, "--out", dir, "--set", "hub=docker.io/ambit"}
	for _, s := range set {
		args = append(args, "--set", s)
	}
	_, err = output(exec.CommandContext(ctx, "go", args...))
	return dir, err
}

func (w *World) meshReady(ctx context.Context) error {
	for _, what := range []string{"daemonset/ambit-agent", "deployment/ambit-controller", "daemonset/ambit-ztunnel"} {
		if _, err := w.kubectl(ctx, "-n", "ambit-system", "rollout", "status", what, "--timeout=180s"); err != nil {
			pods, _ := w.kubectl(context.WithoutCancel(ctx), "-n", "ambit-system", "get", "pods", "-o", "wide") // to explain
			return fmt.Errorf("%w; %s", err, pods)
		}
	}
	return nil
}

func (w *World) workloadsReady(ctx context.Context) error {
	for _, namespace := range []string{"inside", "outside"} {
		if _, err := w.kubectl(ctx, "-n", namespace, "wait", "--for=condition=Ready", "pods", "--all", "--timeout=120s"); err != nil {
			return err
		}
	}
	return nil
}

// redirection is what a pod's annotation says, as a template for pods.
const redirection = `{{with .metadata.annotations}}{{with index . "ambient.istio.io/redirection"}}{{.}}{{end}}{{end}}`

// annotated waits until every pod of a namespace says this of its redirection.
func (w *World) annotated(ctx context.Context, namespace, want string) error {
	return poll(ctx, time.Minute, func() error {
		all, err := w.pods(ctx, namespace, "", redirection)
		if err != nil {
			return err
		}
		for _, pod := range all {
			if name, value, _ := strings.Cut(pod, "="); value != want {
				return fmt.Errorf("pod %s has redirection %q, want %q", name, value, want)
			}
		}
		return nil
	})
}
