package main

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// mountNode makes the file system of a node out of the machine's: its own folders, a /run, a /proc of its processes, a
// /sys of its network, its own control groups at the usual place, and an empty bpffs. It works in a mount namespace that
// nobody else has yet; all of this goes when the last process in it does.
func (s NodeSpec) mountNode() error {
	all, err := machineHierarchies() // before /proc is the node's
	if err != nil {
		return err
	}
	type mount struct {
		source, target, kind string
		flags                uintptr
		data                 string
	}
	mounts := []mount{{"", "/", "", unix.MS_REC | unix.MS_PRIVATE, ""}} // what is mounted here stays here
	for _, dir := range copied {
		mounts = append(mounts, mount{"overlay", dir, "overlay", 0, fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", dir, s.upper(dir), filepath.Join(s.Dir, "work", dir))})
	}
	for _, dir := range own {
		mounts = append(mounts, mount{filepath.Join(s.Dir, "own", dir), dir, "", unix.MS_BIND, ""})
	}
	mounts = append(
		mounts,
		mount{"tmpfs", "/run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=755"},
		mount{"proc", "/proc", "proc", 0, ""},
		mount{"sysfs", "/sys", "sysfs", 0, ""},
		mount{"bpf", "/sys/fs/bpf", "bpf", 0, "mode=700"},
		mount{"tmpfs", cgroupRoot, "tmpfs", 0, "mode=755"},
	)
	for _, h := range all {
		mounts = append(mounts, mount{"cgroup", h.Path, h.Type, 0, h.Options})
	}
	mounts = append(mounts, mount{"", "/", "", unix.MS_REC | unix.MS_SHARED, ""}) // pods may ask for mounts to propagate
	for _, m := range mounts {
		if m.kind == "cgroup" || m.kind == "cgroup2" {
			if err := os.MkdirAll(m.target, 0o755); err != nil {
				return err
			}
		}
		if err := unix.Mount(m.source, m.target, m.kind, m.flags, m.data); err != nil {
			return fmt.Errorf("mount %s on %s: %w", m.source, m.target, err)
		}
	}
	return nil
}
