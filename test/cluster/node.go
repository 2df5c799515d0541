package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
)

// NodeSpec is what a node's first process is told.
type NodeSpec struct {
	Node    Node
	Cluster string // name of the plan
	Dir     string // the node's folder
	Images  string // folder of image tarballs to load
	Binary  string // the multi-call Kubernetes program
}

// What a node does not share with the machine, beside /run, /proc and /sys. All else it does, as it is, so that programs of
// the distribution run in it without an image of one.
var (
	// copied folders look like the machine's until the node writes to them.
	copied = []string{"/etc", "/opt", "/var/lib", "/var/log"}
	// own folders begin empty; containerd's cannot be an overlay because it makes overlays of it.
	own = []string{"/var/lib/containerd", "/var/lib/kubelet"}
)

// upper is where a file that the node wrote, or is given, lies on the machine.
func (s NodeSpec) upper(path string) string { return filepath.Join(s.Dir, "upper", path) }

// start runs a node: a keeper in the machine's namespaces, which joins the node's control groups, and as its child the
// node's first process in new namespaces. When the keeper dies, so does the child, and with it everything in the node.
func (s NodeSpec) start() (*Process, error) {
	for _, dir := range copied {
		if err := errors.Join(os.MkdirAll(s.upper(dir), 0o755), os.MkdirAll(filepath.Join(s.Dir, "work", dir), 0o700)); err != nil {
			return nil, err
		}
	}
	for _, dir := range own { // with their mount points
		if err := errors.Join(os.MkdirAll(s.upper(dir), 0o755), os.MkdirAll(filepath.Join(s.Dir, "own", dir), 0o755)); err != nil {
			return nil, err
		}
	}
	if err := s.writeConfig(); err != nil {
		return nil, fmt.Errorf("configuration of %s: %w", s.Node.Name, err)
	}
	text, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return start(filepath.Dir(filepath.Dir(s.Dir)), s.Node.Name, []string{self, "node-keeper", string(text)})
}

// keep is the keeper. It writes the pid of the node's first process to the node's folder.
func (s NodeSpec) keep(ctx context.Context) error {
	all, err := machineHierarchies()
	if err != nil {
		return err
	}
	if err := joinCgroups(all, filepath.Join(s.Cluster, s.Node.Name)); err != nil {
		return err
	}
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	runtime.LockOSThread() // the child dies with the thread that started it
	cmd := exec.CommandContext(ctx, "/proc/self/exe", "node-init", string(text))
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC | syscall.CLONE_NEWCGROUP,
		Pdeathsig:  syscall.SIGKILL,
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("first process: %w", err)
	}
	pid := fmt.Appendf(nil, "%d\n", cmd.Process.Pid)
	if err := os.WriteFile(s.pidFile()+".new", pid, 0o644); err != nil {
		return err
	}
	if err := os.Rename(s.pidFile()+".new", s.pidFile()); err != nil {
		return err
	}
	return cmd.Wait()
}

func (s NodeSpec) pidFile() string { return filepath.Join(s.Dir, "pid") }

// pid of the node's first process: its namespaces are the node's.
func (s NodeSpec) pid() (int, error) {
	text, err := os.ReadFile(s.pidFile())
	if err != nil {
		return 0, err
	}
	var pid int
	_, err = fmt.Sscan(string(text), &pid)
	return pid, err
}
