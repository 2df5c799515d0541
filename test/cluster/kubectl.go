package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
)

// kubectl runs kubectl as the administrator and gives what it printed.
func (c *Control) kubectl(ctx context.Context, stdin io.Reader, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, c.Binary, append([]string{"kubectl", "--kubeconfig=" + c.Kubeconfig(), "--cache-dir=" + c.file("cache")}, args...)...)
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stderr = stdin, &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return string(out), nil
}

// crds are the files with the resource definitions that the mesh reads, from the modules and in the versions that the
// product itself is built with: Istio's, and the Gateway API's standard channel.
func (t Tree) crds(ctx context.Context) ([]string, error) {
	istio, err := t.moduleDir(ctx, "istio.io/api")
	if err != nil {
		return nil, err
	}
	gateway, err := t.moduleDir(ctx, "sigs.k8s.io/gateway-api")
	if err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(gateway, "config/crd/standard/gateway.*.yaml"))
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("no resource definitions in %s", gateway)
	}
	return append(files, filepath.Join(istio, "kubernetes/customresourcedefinitions.gen.yaml")), nil
}

// moduleDir is where a module of the product's graph lies, downloaded if it has to be.
func (t Tree) moduleDir(ctx context.Context, module string) (string, error) {
	for _, args := range [][]string{{"mod", "download", module}, {"list", "-m", "-f", "{{.Dir}}", module}} {
		cmd := exec.CommandContext(ctx, "go", args...)
		var stderr bytes.Buffer
		cmd.Dir, cmd.Stderr = string(t), &stderr
		out, err := cmd.Output()
		if err != nil {
			return "", fmt.Errorf("module %s: %w: %s", module, err, strings.TrimSpace(stderr.String()))
		}
		if dir := strings.TrimSpace(string(out)); args[0] == "list" && dir != "" {
			return dir, nil
		}
	}
	return "", fmt.Errorf("module %s is not on this machine", module)
}

// installCRDs makes the API server know the mesh's resources, and waits until it serves them.
func (c *Control) installCRDs(ctx context.Context, files []string) error {
	args := []string{"apply", "--server-side"}
	for _, f := range files {
		args = append(args, "-f", f)
	}
	if _, err := c.kubectl(ctx, nil, args...); err != nil {
		return err
	}
	_, err := c.kubectl(ctx, nil, "wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
	return err
}
