package datapath

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ambit-mesh/ambit/agent/datapath/plan"
	"github.com/ambit-mesh/ambit/bpf"
)

// Kubelet says which process's connections to declared probe ports reach the application past the mesh. A cgroup identifies
// kubelet when nothing else lives in it, and survives kubelet's restart; otherwise the process does. The zero value is nobody.
type Kubelet struct {
	Netns  uint64 // cookie of the node's network namespace
	Cgroup uint64 // id of kubelet's cgroup; 0: not compared
	PID    int    // in its own pid namespace, which must be the agent's; 0: not compared
	PIDNS  uint32 // inode of that namespace: not the kernel's first where the node itself is a container
	Start  uint64 // of the process since boot, in 1/100 s
}

// SetKubelet names kubelet to the kernel. Probes are refused like other plaintext until it is called.
func (d *Datapath) SetKubelet(k Kubelet) error {
	if k != (Kubelet{}) && (k.Netns == 0 || (k.Cgroup == 0 && (k.PID <= 0 || k.PIDNS == 0 || k.Start == 0))) {
		return errors.New("kubelet: a namespace, and a cgroup or a process with its start, are needed to tell it from others")
	}
	entry := bpf.ConnectAmbitKubelet{Netns: k.Netns, Cgroup: k.Cgroup, Pid: uint32(k.PID), Pidns: k.PIDNS, Start: k.Start}
	if err := d.obj.maps[mapKubelet].Put(uint32(0), entry); err != nil {
		return fmt.Errorf("kubelet: %w", err)
	}
	return nil
}

// FindProcess describes a process as a Kubelet, but for its namespace: by its cgroup under cgroupRoot if it is alone there, else
// by itself. procfs is the host's /proc.
func FindProcess(procfs, cgroupRoot string, pid int) (Kubelet, error) {
	dir := filepath.Join(procfs, strconv.Itoa(pid))
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return Kubelet{}, fmt.Errorf("kubelet's process: %w", err)
	}
	start, err := startOf(string(stat))
	if err != nil {
		return Kubelet{}, fmt.Errorf("kubelet's process %d: %w", pid, err)
	}
	alone := Kubelet{PID: pid, Start: start}
	var ns unix.Stat_t
	if err := unix.Stat(filepath.Join(dir, "ns", "pid"), &ns); err != nil {
		return Kubelet{}, fmt.Errorf("kubelet's pid namespace: %w", err)
	}
	alone.PIDNS = uint32(ns.Ino) // of nsfs, which has 32 bits of them
	cgroup, err := os.ReadFile(filepath.Join(dir, "cgroup"))
	if err != nil {
		return Kubelet{}, fmt.Errorf("kubelet's cgroup: %w", err)
	}
	for line := range strings.Lines(string(cgroup)) {
		path, unified := strings.CutPrefix(strings.TrimSpace(line), "0::")
		if !unified || path == "/" {
			continue
		}
		own := filepath.Join(cgroupRoot, path)
		procs, err := os.ReadFile(filepath.Join(own, "cgroup.procs"))
		if err != nil || !slices.Equal(strings.Fields(string(procs)), []string{strconv.Itoa(pid)}) {
			continue
		}
		var st unix.Stat_t
		if err := unix.Stat(own, &st); err == nil {
			return Kubelet{Cgroup: st.Ino}, nil // the inode of a cgroup directory is its id
		}
	}
	return alone, nil
}

// startOf finds field 22 of /proc/PID/stat. Field 2, the name, is in brackets and may hold anything.
func startOf(stat string) (uint64, error) {
	i := strings.LastIndexByte(stat, ')')
	if i < 0 {
		return 0, errors.New("malformed stat")
	}
	fields := strings.Fields(stat[i+1:])
	if len(fields) < 20 {
		return 0, errors.New("malformed stat")
	}
	start, err := strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("malformed stat: %w", err)
	}
	return start, nil
}

// SetProbePorts replaces the ports of an enrolled pod that kubelet may probe.
func (d *Datapath) SetProbePorts(cookie uint64, ports []uint16) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	pods := d.entries.List()
	i := slices.IndexFunc(pods, func(p Pod) bool { return p.Cookie == cookie })
	if i < 0 {
		return fmt.Errorf("probe ports: network namespace %d is not enrolled", cookie)
	}
	pods[i].ProbePorts = ports
	want, err := plan.Want(pods)
	if err != nil {
		return fmt.Errorf("probe ports: %w", err)
	}
	return d.applyLocked(want)
}
