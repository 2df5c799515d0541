package netlab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Leftovers lists what exists on this machine of a lab: folder, mounts, namespaces, cgroups, processes. After Down it must
// be empty. Links live in namespaces and go with them; pinned programs live in the lab's bpffs.
func Leftovers(name string) ([]string, error) {
	l := &Lab{name: name, dir: filepath.Join(Root, name)}
	var left []string
	if _, err := os.Lstat(l.dir); err == nil {
		left = append(left, "folder "+l.dir)
	}
	points, err := mountPoints(l.dir)
	if err != nil {
		return nil, err
	}
	for _, p := range points {
		left = append(left, "mount "+p)
	}
	names, err := os.ReadDir(netnsDir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	for _, e := range names {
		if strings.HasPrefix(e.Name(), name+"-") {
			left = append(left, "network namespace "+e.Name())
		}
	}
	if cgroup := l.cgroup(); cgroup != "" {
		if _, err := os.Lstat(cgroup); err == nil {
			left = append(left, "cgroup "+cgroup)
		}
	}
	processes, err := processesOf("ambit-lab-" + name)
	return append(left, processes...), err
}

// processesOf finds processes by the lab's cgroup.
func processesOf(cgroup string) ([]string, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var found []string
	for _, e := range entries {
		if e.Name()[0] < '0' || e.Name()[0] > '9' {
			continue
		}
		groups, err := os.ReadFile("/proc/" + e.Name() + "/cgroup")
		if err != nil {
			continue // ended meanwhile
		}
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if _, err := born(pid); err != nil {
			continue // a zombie waits for its parent and holds nothing
		}
		if strings.Contains(string(groups), "/"+cgroup+"/") {
			argv, _ := os.ReadFile("/proc/" + e.Name() + "/cmdline")
			found = append(found, fmt.Sprintf("process %s (%s)", e.Name(), strings.ReplaceAll(strings.TrimRight(string(argv), "\x00"), "\x00", " ")))
		}
	}
	return found, nil
}
