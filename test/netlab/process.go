package netlab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Process is a long-running program of the lab. It lives on when the process that started it ends.
type Process struct {
	Name string `json:"name"` // unique in the lab
	Node string `json:"node"`
	Pod  string `json:"pod,omitempty"` // namespace/name; empty: in the node's own namespace
	PID  int    `json:"pid"`
	// Born is the start time in /proc/PID/stat: with the pid it names a process even after pids were reused.
	Born string   `json:"born"`
	Argv []string `json:"argv"`
	Log  string   `json:"log"`
}

// Spec says what to run and where.
type Spec struct {
	// Name names a long-running program and its log; Start needs it.
	Name string
	// Pod is namespace/name; when empty the program runs in the namespace of Node, or of Wire.
	Pod, Node string
	Argv      []string
	Env       []string // added to a small environment
	User      string   // name or uid; empty is root
	// NoPrivileges takes every capability away, for good.
	NoPrivileges bool
	Dir          string
	// MachineMounts runs a program of the node in the machine's own mount namespace: an agent must see /run/netns.
	MachineMounts bool
	// SameSession keeps a program that Exec runs in the caller's session, so that it may use its terminal.
	SameSession bool
}

// place is where a Spec runs: what enter and clone need.
type place struct {
	node, hostname, netns, etc, cgroup string
}

func (l *Lab) place(spec Spec) (p place, err error) {
	name := spec.Name
	if name == "" {
		name = "exec"
	}
	if spec.Pod == "" {
		if _, err := l.Node(spec.Node); err != nil && spec.Node != Wire {
			return p, err
		}
		p = place{node: spec.Node, hostname: spec.Node, netns: l.netnsPath(spec.Node), cgroup: filepath.Join(l.cgroup(), spec.Node, "host", name)}
		if !spec.MachineMounts {
			p.etc, err = l.writeEtc(filepath.Join(l.NodeDir(spec.Node), "etc"), spec.Node, nil)
		}
		return p, err
	}
	pod, err := l.Pod(spec.Pod)
	if err != nil {
		return p, err
	}
	return place{pod.Node, pod.Name, pod.Netns, l.etcOf(pod), filepath.Join(l.podCgroup(pod), name)}, nil
}

// CgroupOf is the cgroup that a program runs in, or would run in.
func (l *Lab) CgroupOf(spec Spec) (string, error) {
	where, err := l.place(spec)
	return where.cgroup, err
}

// command prepares a program to run in its place; the caller closes the returned file after it was started.
func (l *Lab) command(ctx context.Context, spec Spec) (*exec.Cmd, place, *os.File, error) {
	where, err := l.place(spec)
	if err != nil {
		return nil, where, nil, err
	}
	if err := makeCgroup(where.cgroup); err != nil {
		return nil, where, nil, err
	}
	labprog, err := l.Bin("labprog")
	if err != nil {
		return nil, where, nil, err
	}
	argv := []string{"enter", "--netns", where.netns, "--hostname", where.hostname}
	if where.etc != "" {
		argv = append(argv, "--etc", where.etc, "--drop-mounts", netnsDir+","+Root)
	}
	if spec.User != "" {
		argv = append(argv, "--user", spec.User)
	}
	if spec.NoPrivileges {
		argv = append(argv, "--no-privileges")
	}
	if spec.Dir != "" {
		argv = append(argv, "--dir", spec.Dir)
	}
	cgroup, err := os.Open(where.cgroup)
	if err != nil {
		return nil, where, nil, fmt.Errorf("cgroup: %w", err)
	}
	cmd := exec.CommandContext(ctx, labprog, append(append(argv, "--"), spec.Argv...)...)
	s, err := l.load()
	if err != nil {
		return nil, where, cgroup, errors.Join(err, cgroup.Close())
	}
	cmd.Env = append([]string{
		"PATH=" + s.BinDir + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "LC_ALL=C.UTF-8",
	}, spec.Env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: !spec.SameSession, UseCgroupFD: true, CgroupFD: int(cgroup.Fd())}
	return cmd, where, cgroup, nil
}

// Start starts a long-running program, detached, with its output in a log of its own. A program of the same name that has
// ended is replaced, its log continued.
func (l *Lab) Start(spec Spec) (Process, error) {
	if have, err := l.Process(spec.Name); err == nil && have.Alive() {
		return have, fmt.Errorf("process %s runs already, as %d", spec.Name, have.PID)
	}
	cmd, where, cgroup, err := l.command(context.Background(), spec)
	if err != nil {
		return Process{}, fmt.Errorf("start %s: %w", spec.Name, err)
	}
	defer cgroup.Close()
	p := Process{Name: spec.Name, Node: where.node, Pod: spec.Pod, Argv: spec.Argv, Log: filepath.Join(l.logs(), spec.Name+".log")}
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return p, fmt.Errorf("log of %s: %w", spec.Name, err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return p, fmt.Errorf("start %s: %w", spec.Name, err)
	}
	l.reapers.Go(func() { _ = cmd.Wait() }) // how it ended stands in its log; a zombie would look alive
	p.PID = cmd.Process.Pid
	p.Born, _ = born(p.PID) // empty: it has ended already
	err = l.update(func(s *state) error {
		s.Processes = slices.DeleteFunc(s.Processes, func(old Process) bool { return old.Name == p.Name })
		s.Processes = append(s.Processes, p)
		return nil
	})
	return p, err
}

// Process finds a long-running program by name.
func (l *Lab) Process(name string) (Process, error) {
	all, err := l.Processes()
	if err != nil {
		return Process{}, err
	}
	i := slices.IndexFunc(all, func(p Process) bool { return p.Name == name })
	if i < 0 {
		return Process{}, fmt.Errorf("lab %s has no process %q", l.name, name)
	}
	return all[i], nil
}

// Processes lists the long-running programs, also those that have ended.
func (l *Lab) Processes() ([]Process, error) {
	s, err := l.load()
	return s.Processes, err
}

// Alive reports whether the process still runs.
func (p Process) Alive() bool {
	now, err := born(p.PID)
	return err == nil && p.Born != "" && now == p.Born
}

// Signal sends a signal if the process still runs.
func (p Process) Signal(sig unix.Signal) error {
	if !p.Alive() {
		return fmt.Errorf("process %s (%d) has ended", p.Name, p.PID)
	}
	return unix.Kill(p.PID, sig)
}

// Stop sends a signal and waits until the process is gone, at most limit.
func (p Process) Stop(ctx context.Context, sig unix.Signal, limit time.Duration) error {
	if err := p.Signal(sig); err != nil {
		return err
	}
	return poll(ctx, limit, func() error {
		if p.Alive() {
			return fmt.Errorf("process %s (%d) outlives %s", p.Name, p.PID, sig)
		}
		return nil
	})
}

// born is the start time of a living process, in clock ticks since boot. A zombie does not live, unless threads besides the
// first one are still closing what the process has open, its ports among them.
func born(pid int) (string, error) {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return "", err
	}
	// The second field is the program's name in brackets and may hold anything; the third is the state, the 22nd the start.
	_, rest, ok := strings.Cut(string(stat[strings.LastIndexByte(string(stat), ')'):]), " ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 20 || fields[0] == "X" {
		return "", os.ErrProcessDone
	}
	if threads := fields[17]; fields[0] == "Z" && (threads == "1" || threads == "0") { // field 20
		return "", os.ErrProcessDone
	}
	return fields[19], nil
}

// LogText is what a process has written so far.
func (l *Lab) LogText(name string) (string, error) {
	content, err := os.ReadFile(filepath.Join(l.logs(), name+".log"))
	return string(content), err
}

// CopyLog writes a process's log to w.
func (l *Lab) CopyLog(w io.Writer, name string) error {
	f, err := os.Open(filepath.Join(l.logs(), filepath.Base(name)+".log"))
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}
