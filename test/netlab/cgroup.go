package netlab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// cgroupRoot finds where cgroup2 is mounted: /sys/fs/cgroup, or /sys/fs/cgroup/unified beside cgroup v1.
func cgroupRoot() (string, error) {
	table, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(table)) {
		if f := strings.Fields(line); len(f) > 2 && f[2] == "cgroup2" {
			return f[1], nil
		}
	}
	return "", errors.New("no cgroup2 file system is mounted: mount one with `mount -t cgroup2 none /sys/fs/cgroup`")
}

// CgroupRoot is the cgroup2 mount, where the mesh attaches its programs.
func CgroupRoot() (string, error) { return cgroupRoot() }

// cgroup is the lab's own cgroup, empty string if there is no cgroup2.
func (l *Lab) cgroup() string {
	root, err := cgroupRoot()
	if err != nil {
		return ""
	}
	return filepath.Join(root, "ambit-lab-"+l.name)
}

func makeCgroup(path string) error {
	if err := os.MkdirAll(path, 0o755); err != nil {
		return fmt.Errorf("cgroup: %w", err)
	}
	return nil
}

// killCgroup kills every process in and below a cgroup and waits until they are gone. A cgroup that does not exist is empty.
func killCgroup(ctx context.Context, path string) error {
	return poll(ctx, 10*time.Second, func() error {
		// Again each time: cgroup.kill passes over a process whose first thread is being replaced by exec.
		if err := os.WriteFile(filepath.Join(path, "cgroup.kill"), []byte("1"), 0); err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return fmt.Errorf("kill processes of %s: %w", path, err)
		}
		events, err := os.ReadFile(filepath.Join(path, "cgroup.events"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if strings.Contains(string(events), "populated 1") {
			return fmt.Errorf("processes of %s outlive SIGKILL", path)
		}
		return nil
	})
}

// removeCgroup removes an empty cgroup and those below it.
func removeCgroup(path string) error {
	var dirs []string
	err := filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, p)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("cgroup %s: %w", path, err)
	}
	for _, dir := range slices.Backward(dirs) {
		if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("cgroup: %w", err)
		}
	}
	return nil
}

// poll repeats try until it succeeds; after limit, or when ctx ends, its last error is the answer.
func poll(ctx context.Context, limit time.Duration, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}

// Poll is poll for those who wait for something in the lab: every 10 ms, until try succeeds or limit has passed.
func Poll(ctx context.Context, limit time.Duration, try func() error) error {
	return poll(ctx, limit, try)
}
