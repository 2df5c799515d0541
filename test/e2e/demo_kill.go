package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ambit-mesh/ambit/test/netlab/mesh"
)

// Parts of the mesh die by SIGKILL of their container's process. The node's kubelet, which would start it again within a second,
// is frozen for as long as it shall stay dead; nothing else of the node is.

// appOf is the label of a part's pods, and its node; a controller has none.
func (w *World) appOf(part string) (app, node string) {
	for _, node := range w.nodes {
		switch part {
		case mesh.AgentName(node):
			return "ambit-agent", node
		case mesh.ZtunnelName(node):
			return "ambit-ztunnel", node
		}
	}
	return "ambit-controller", ""
}

// Kill is part of demo.Mesh: of the controller all replicas.
func (m demoMesh) Kill(ctx context.Context, part string) error {
	var pids []int
	app, node := m.w.appOf(part)
	pods, err := m.podsOf(ctx, app, node)
	if err != nil {
		return err
	}
	for _, pod := range pods {
		pid, err := m.running(ctx, pod.Name)
		if err != nil {
			return err
		}
		pids = append(pids, pid)
	}
	for _, pod := range pods { // all first: what dies is seen at once
		if err := m.freeze(pod.Spec.NodeName); err != nil {
			return err
		}
	}
	for _, pid := range pids {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			return fmt.Errorf("%s: %w", part, err)
		}
	}
	return poll(ctx, 10*time.Second, func() error {
		left, err := findProcesses(func(dir string) bool {
			pid, _ := strconv.Atoi(filepath.Base(dir))
			return slices.Contains(pids, pid) && lives(dir)
		})
		if err == nil && len(left) > 0 {
			err = fmt.Errorf("%s outlives SIGKILL: %v", part, left)
		}
		return err
	})
}

// running is the process of a pod of the mesh, by its pid on the machine. What the API server knows of a container that was
// started again comes late.
func (l *demoLab) running(ctx context.Context, name string) (pid int, err error) {
	err = poll(ctx, 20*time.Second, func() error {
		pod, err := l.kube.CoreV1().Pods(mesh.Namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		id := ""
		for _, c := range pod.Status.ContainerStatuses {
			id = c.ContainerID[strings.LastIndexByte(c.ContainerID, '/')+1:] // containerd://ID
		}
		if id == "" {
			return fmt.Errorf("%s has no container", name)
		}
		// The id is in the name of its control groups.
		pid, err = findProcess(func(dir string) bool {
			text, err := os.ReadFile(filepath.Join(dir, "cgroup"))
			return err == nil && bytes.Contains(text, []byte(id)) && lives(dir)
		})
		return err
	})
	if err != nil {
		err = fmt.Errorf("the process of %s: %w", name, err)
	}
	return pid, err
}

// lives reports whether the process of a folder of /proc does: a zombie has no arguments.
func lives(dir string) bool {
	line, err := os.ReadFile(filepath.Join(dir, "cmdline"))
	return err == nil && len(line) > 0
}

// StartAgent is part of demo.Mesh, as are the next two: the kubelets do it.
func (m demoMesh) StartAgent(ctx context.Context, node string) error {
	m.thaw()
	return poll(ctx, time.Minute, func() error {
		s, err := m.w.agent(ctx, node)
		if err == nil && !s.Ready {
			err = fmt.Errorf("the agent on %s is not ready: %v", node, s.Missing)
		}
		return err
	})
}

// StartZtunnel is part of demo.Mesh.
func (m demoMesh) StartZtunnel(ctx context.Context, node string) error {
	m.thaw()
	return m.answers(ctx, mesh.ZtunnelName(node), ":15021/healthz/ready")
}

// StartController is part of demo.Mesh.
func (m demoMesh) StartController(ctx context.Context) error {
	m.thaw()
	return m.answers(ctx, mesh.ControllerName, ":15014/ready")
}

// answers waits until every pod of a part says that it is ready. The API server would tell of before.
func (m demoMesh) answers(ctx context.Context, part, path string) error {
	return poll(ctx, time.Minute, func() error {
		app, node := m.w.appOf(part)
		pods, err := m.podsOf(ctx, app, node)
		for _, pod := range pods {
			if _, fetchErr := fetch(ctx, "http://"+pod.Status.PodIP+path); fetchErr != nil {
				err = errors.Join(err, fetchErr)
			}
		}
		return err
	})
}

// freeze stops a node's kubelet until thaw.
func (l *demoLab) freeze(node string) error {
	kubelet := filepath.Join(l.w.Dir, "nodes", node, "kubelet") // its program, named so in its arguments
	pid, err := findProcess(func(dir string) bool {
		text, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		return err == nil && bytes.HasPrefix(text, []byte(kubelet+"\x00kubelet\x00"))
	})
	if err != nil {
		return fmt.Errorf("kubelet of %s: %w", node, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.frozen[pid] = true
	return unix.Kill(pid, unix.SIGSTOP)
}

// thaw lets all kubelets go on.
func (l *demoLab) thaw() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for pid := range l.frozen {
		_ = unix.Kill(pid, unix.SIGCONT) // one that ended was started again by its node
	}
	clear(l.frozen)
}

// nodePID is the first process of a node, by its pid on the machine.
func (l *demoLab) nodePID(node string) (int, error) {
	text, err := os.ReadFile(filepath.Join(l.w.Dir, "nodes", node, "pid"))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}

func findProcess(is func(dir string) bool) (int, error) {
	all, err := findProcesses(is)
	if err == nil && len(all) != 1 {
		err = fmt.Errorf("%d processes, want one: %w", len(all), fs.ErrNotExist)
	}
	if err != nil {
		return 0, err
	}
	return all[0], nil
}

// findProcesses lists the processes of the machine of whose folder in /proc something holds.
func findProcesses(is func(dir string) bool) (out []int, err error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil && is(filepath.Join("/proc", e.Name())) {
			out = append(out, pid)
		}
	}
	return out, nil
}
