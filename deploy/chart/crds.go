package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// crdFiles are where modules of the product keep the CRDs that its users write.
var crdFiles = []struct{ module, glob string }{
	{"istio.io/api", "kubernetes/customresourcedefinitions.gen.yaml"},
	{"sigs.k8s.io/gateway-api", "config/crd/standard/*.yaml"},
}

// CRDs are the definitions in the versions that the product at source is built with.
func CRDs(source string) (string, error) {
	var parts []string
	for _, c := range crdFiles {
		cmd := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", c.module)
		cmd.Dir, cmd.Stderr = source, os.Stderr
		dir, err := cmd.Output()
		if err != nil {
			return "", fmt.Errorf("module %s: %w", c.module, err)
		}
		paths, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(dir)), c.glob))
		if err != nil || len(paths) == 0 {
			return "", fmt.Errorf("module %s holds no %s", c.module, c.glob)
		}
		for _, p := range paths {
			if filepath.Base(p) == "kustomization.yaml" {
				continue
			}
			text, err := os.ReadFile(p)
			if err != nil {
				return "", err
			}
			parts = append(parts, strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(string(text)), "---")))
		}
	}
	return document(parts), nil
}
