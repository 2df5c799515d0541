package netlab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// plugins are the CNI plugins of the lab's nodes, real ones.
var plugins = []string{"plugins/main/ptp", "plugins/ipam/host-local"}

const pluginsVersion = "v1.9.1"

// Build builds what a lab runs into build/bin and build/cni of the tree at root: our own commands that exist there, labprog
// and the CNI plugins. go's cache makes it cheap when nothing changed.
func Build(root string) error {
	bin, cni := filepath.Join(root, "build", "bin"), filepath.Join(root, "build", "cni")
	if err := errors.Join(os.MkdirAll(bin, 0o755), os.MkdirAll(cni, 0o755)); err != nil {
		return err
	}
	if err := goRun(root, nil, "build", "-o", filepath.Join(bin, "labprog"), "./test/programs"); err != nil {
		return err
	}
	for folder, program := range map[string]string{
		"agent": "ambit-agent", "cni": "ambit-cni", "ztunnel": "ambit-ztunnel", "controller": "ambit-controller", "ambit": "ambit",
	} {
		if files, _ := filepath.Glob(filepath.Join(root, "cmd", folder, "*.go")); len(files) == 0 {
			continue // a tree without it: a lab without a mesh can be had all the same
		}
		if err := goRun(root, nil, "build", "-o", filepath.Join(bin, program), "./cmd/"+folder); err != nil {
			return err
		}
	}
	args := []string{"install"}
	for _, p := range plugins {
		args = append(args, "github.com/containernetworking/plugins/"+p+"@"+pluginsVersion)
	}
	return goRun(root, []string{"GOBIN=" + cni}, args...)
}

func goRun(root string, env []string, args ...string) error {
	cmd := exec.Command("go", args...)
	cmd.Dir, cmd.Env = root, append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w: %s", args[0], err, out)
	}
	return nil
}
