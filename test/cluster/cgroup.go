package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const cgroupRoot = "/sys/fs/cgroup"

// hierarchy is one mounted tree of control groups: several in version 1, one in version 2, both kinds in a hybrid.
type hierarchy struct {
	Path    string // mount point, below cgroupRoot or the root itself
	Type    string // cgroup or cgroup2
	Options string // for mount(8): which controllers
}

// hierarchies reads the ones of this machine from /proc/mounts.
func hierarchies(mounts string) (all []hierarchy) {
	for line := range strings.Lines(mounts) {
		f := strings.Fields(line)
		if len(f) < 4 || f[2] != "cgroup" && f[2] != "cgroup2" || f[1] != cgroupRoot && filepath.Dir(f[1]) != cgroupRoot {
			continue
		}
		h := hierarchy{Path: f[1], Type: f[2]}
		var options []string
		for o := range strings.SplitSeq(f[3], ",") {
			switch {
			case h.Type != "cgroup", o == "rw", o == "ro", o == "nosuid", o == "nodev", o == "noexec", o == "relatime", o == "xattr":
			case strings.HasPrefix(o, "name="): // a hierarchy with a name instead of a controller
				options = append(options, "none", o)
			case !strings.Contains(o, "="):
				options = append(options, o)
			}
		}
		h.Options = strings.Join(options, ",")
		all = append(all, h)
	}
	return all
}

func machineHierarchies() ([]hierarchy, error) {
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil {
		return nil, err
	}
	all := hierarchies(string(mounts))
	if len(all) == 0 {
		return nil, fmt.Errorf("no control groups are mounted on %s", cgroupRoot)
	}
	if len(all) == 1 && all[0].Type == "cgroup2" {
		return nil, errors.New("this machine has control groups of version 2 only; test/cluster was made for version 1 and hybrid machines")
	}
	return all, nil
}

// joinCgroups puts the calling process into group in every hierarchy, made if need be.
func joinCgroups(all []hierarchy, group string) error {
	for _, h := range all {
		dir := filepath.Join(h.Path, group)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("control group: %w", err)
		}
		if err := inheritCPUs(h.Path, dir); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0); err != nil {
			return fmt.Errorf("control group: %w", err)
		}
	}
	return nil
}

// inheritCPUs gives each group from top down to dir what version 1 of cpuset leaves empty, and a process cannot join without.
func inheritCPUs(top, dir string) error {
	if dir == top {
		return nil
	}
	if err := inheritCPUs(top, filepath.Dir(dir)); err != nil {
		return err
	}
	for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
		value, err := os.ReadFile(filepath.Join(filepath.Dir(dir), name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // another hierarchy
		}
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name), value, 0); err != nil {
			return fmt.Errorf("control group: %w", err)
		}
	}
	return nil
}

// removeCgroups removes a group and all below it from every hierarchy. The kernel may need a moment after the last process.
func removeCgroups(all []hierarchy, group string) error {
	var err error
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		err = nil
		for _, h := range all {
			err = errors.Join(err, removeTree(filepath.Join(h.Path, group)))
		}
		if err == nil {
			return nil
		}
	}
	return fmt.Errorf("control groups stay: %w", err)
}

func removeTree(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeTree(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return os.Remove(dir)
}
