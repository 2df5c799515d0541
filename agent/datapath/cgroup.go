package datapath

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// rootInode is the inode number of the root of the cgroup2 hierarchy, whoever looks at it from wherever. Inside a private cgroup
// namespace "/" is only the namespace's own subtree, and mountinfo does not tell; the number does.
const rootInode = 1

// usualMount is where every distribution has control groups, those of version 2 there or in a folder of it.
const usualMount = "/sys/fs/cgroup/"

// cgroupDir is a folder where a cgroup2 hierarchy, or a part of one, can be seen.
type cgroupDir struct {
	path  string
	inode uint64
	node  bool // all that this node has of it: its first process sees no more either
}

// root: everything on this node is in it or below. A node that is a container itself, as kind's are, has only a part.
func (c cgroupDir) root() bool { return c.inode == rootInode || c.node }

// findCgroup2 finds the root of the cgroup2 hierarchy: given, or what is mounted below it (beside cgroup v1), or with nothing
// given the first one mounted. how says which it was. procfs is the host's /proc.
func findCgroup2(given, procfs string) (path, how string, err error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", "", fmt.Errorf("cgroup2 root: %w", err)
	}
	mounts := cgroup2Mounts(string(text))
	if given != "" {
		if given, err = filepath.Abs(given); err != nil {
			return "", "", fmt.Errorf("cgroup2 root: %w", err)
		}
		if given, err = filepath.EvalSymlinks(given); err != nil {
			return "", "", fmt.Errorf("cgroup2 root: %w", err)
		}
		mounts = append([]string{given}, mounts...)
	}
	dirs := cgroup2Dirs("", mounts)
	whole := nodeRoot(procfs)
	for i := range dirs {
		dirs[i].node = whole != 0 && dirs[i].inode == whole
	}
	return chooseCgroup2(given, dirs)
}

// cgroup2Dirs are those of mounts, in a file system whose root is at top, that show a cgroup2 hierarchy. A mount may be hidden by
// a later one, or be out of reach: only what is seen there counts.
func cgroup2Dirs(top string, mounts []string) (dirs []cgroupDir) {
	for _, m := range mounts {
		var fs unix.Statfs_t
		var st unix.Stat_t
		if unix.Statfs(top+m, &fs) == nil && uint32(fs.Type) == unix.CGROUP2_SUPER_MAGIC && unix.Stat(top+m, &st) == nil {
			dirs = append(dirs, cgroupDir{path: m, inode: st.Ino})
		}
	}
	return dirs
}

// nodeRoot is the inode of the cgroup2 folder that the first process of the host's pid namespace sees: everything on the node
// descends from it, and cannot leave its cgroup namespace. 0: not to be told, as when that process is in the agent's own
// container because that has a pid namespace of its own.
func nodeRoot(procfs string) uint64 {
	var first, own unix.Stat_t
	if unix.Stat(filepath.Join(procfs, "1", "ns", "mnt"), &first) != nil || unix.Stat("/proc/self/ns/mnt", &own) != nil || first.Ino == own.Ino {
		return 0
	}
	text, err := os.ReadFile(filepath.Join(procfs, "1", "mountinfo"))
	if err != nil {
		return 0
	}
	dirs := cgroup2Dirs(filepath.Join(procfs, "1", "root"), cgroup2Mounts(string(text)))
	if i := slices.IndexFunc(dirs, func(d cgroupDir) bool { return strings.HasPrefix(d.path+"/", usualMount) }); i >= 0 {
		return dirs[i].inode
	}
	return 0
}

// cgroup2Mounts lists where mountinfo (proc_pid_mountinfo(5)) says that cgroup2 is mounted.
func cgroup2Mounts(mountinfo string) (paths []string) {
	for line := range strings.Lines(mountinfo) {
		// 36 35 98:0 / /mountpoint options - type source superoptions
		before, after, ok := strings.Cut(line, " - ")
		fields := strings.Fields(before)
		if ok && strings.HasPrefix(after, "cgroup2 ") && len(fields) > 4 {
			paths = append(paths, unescape(fields[4]))
		}
	}
	return paths
}

// chooseCgroup2 decides which of the folders with cgroup2 is the root that the hooks belong on. A part of the hierarchy is never
// taken for it: pods outside of that part would not be captured, and nobody would notice.
func chooseCgroup2(given string, dirs []cgroupDir) (path, how string, err error) {
	if given == "" {
		if i := slices.IndexFunc(dirs, cgroupDir.root); i >= 0 {
			return dirs[i].path, "the first mount of the whole hierarchy", nil
		}
		if len(dirs) > 0 {
			return "", "", fmt.Errorf("%w; give the host's with --cgroup-root", notTheRoot(dirs[0]))
		}
		return "", "", errors.New("no cgroup2 hierarchy is mounted; mount one with: mount -t cgroup2 none /sys/fs/cgroup")
	}
	var below []cgroupDir
	for _, d := range dirs {
		switch {
		case d.path == given && d.root():
			return given, "as given", nil
		case d.path == given:
			return "", "", notTheRoot(d)
		case strings.HasPrefix(d.path, strings.TrimSuffix(given, "/")+"/"):
			below = append(below, d)
		}
	}
	// systemd's name for it first, then what is nearest.
	slices.SortStableFunc(below, func(a, b cgroupDir) int {
		return rank(given, a) - rank(given, b)
	})
	if i := slices.IndexFunc(below, cgroupDir.root); i >= 0 {
		return below[i].path, "mounted below " + given + ", which is not cgroup2", nil
	}
	if len(below) > 0 {
		return "", "", notTheRoot(below[0])
	}
	return "", "", fmt.Errorf("neither is %s a cgroup2 hierarchy nor is one mounted below it: mount one on the host "+
		"(mount -t cgroup2 none /sys/fs/cgroup/unified) and let the container see it (mountPropagation: HostToContainer)", given)
}

func rank(given string, d cgroupDir) int {
	if d.path == filepath.Join(given, "unified") {
		return 0
	}
	return strings.Count(d.path, "/")
}

func notTheRoot(d cgroupDir) error {
	return fmt.Errorf("%s is not the root of the cgroup2 hierarchy but a part of it (inode %d, the root has %d, and the node's first process sees another part), "+
		"as a container in a private cgroup namespace sees it: pods outside of it would not be captured; mount the host's /sys/fs/cgroup into "+
		"the container, and run it in the host's pid namespace", d.path, d.inode, rootInode)
}

// unescape undoes mountinfo's octal escapes of blanks and backslashes.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
