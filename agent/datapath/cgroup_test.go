package datapath

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ambit-mesh/ambit/test/need"
)

func TestChooseCgroup2(t *testing.T) {
	root := func(path string) cgroupDir { return cgroupDir{path: path, inode: 1} }
	part := func(path string) cgroupDir { return cgroupDir{path: path, inode: 4711} }
	node := func(path string) cgroupDir { return cgroupDir{path: path, inode: 4711, node: true} }
	for name, test := range map[string]struct {
		given string
		dirs  []cgroupDir
		want  string
		err   string // part of it
	}{
		"v2, none given":            {dirs: []cgroupDir{root("/sys/fs/cgroup")}, want: "/sys/fs/cgroup"},
		"v2, given":                 {given: "/host/cgroup", dirs: []cgroupDir{root("/host/cgroup"), part("/sys/fs/cgroup")}, want: "/host/cgroup"},
		"hybrid":                    {given: "/host/cgroup", dirs: []cgroupDir{root("/sys/fs/cgroup/unified"), root("/host/cgroup/unified")}, want: "/host/cgroup/unified"},
		"hybrid, another name":      {given: "/host/cgroup", dirs: []cgroupDir{root("/host/cgroup/v2")}, want: "/host/cgroup/v2"},
		"hybrid, unified first":     {given: "/h", dirs: []cgroupDir{root("/h/a"), root("/h/unified")}, want: "/h/unified"},
		"hybrid, the nearest":       {given: "/h", dirs: []cgroupDir{root("/h/a/b"), root("/h/c")}, want: "/h/c"},
		"hybrid, a part and a root": {given: "/h", dirs: []cgroupDir{part("/h/unified"), root("/h/c")}, want: "/h/c"},
		"given, the file system":    {given: "/", dirs: []cgroupDir{root("/sys/fs/cgroup")}, want: "/sys/fs/cgroup"},
		"a part before the root":    {dirs: []cgroupDir{part("/sys/fs/cgroup"), root("/host/cgroup")}, want: "/host/cgroup"},
		"private, none given":       {dirs: []cgroupDir{part("/sys/fs/cgroup")}, err: "private cgroup namespace"},
		"private, given":            {given: "/sys/fs/cgroup", dirs: []cgroupDir{part("/sys/fs/cgroup"), root("/sys/fs/cgroup/x")}, err: "private cgroup namespace"},
		"private, hybrid":           {given: "/h", dirs: []cgroupDir{part("/h/unified")}, err: "/h/unified is not the root"},
		"a node in a container":     {given: "/h", dirs: []cgroupDir{part("/sys/fs/cgroup"), node("/h")}, want: "/h"},
		"such a node, hybrid":       {given: "/h", dirs: []cgroupDir{part("/h/a"), node("/h/unified")}, want: "/h/unified"},
		"v1 only, none given":       {err: "no cgroup2 hierarchy is mounted"},
		"v1 only, given":            {given: "/host/cgroup", dirs: []cgroupDir{root("/host/cgroup2")}, err: "neither is /host/cgroup"},
	} {
		t.Run(name, func(t *testing.T) {
			got, how, err := chooseCgroup2(test.given, test.dirs)
			switch {
			case test.err != "":
				if err == nil || got != "" || !strings.Contains(err.Error(), test.err) {
					t.Errorf("got %q, %v; want an error with %q", got, err, test.err)
				}
			case err != nil || got != test.want || how == "":
				t.Errorf("got %q (%s), %v; want %q", got, how, err, test.want)
			}
		})
	}
}

func TestCgroup2Mounts(t *testing.T) {
	const text = `31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
41 31 0:38 / /sys/fs/cgroup/uni\040fied rw shared:3 - cgroup2 cgroup2 rw
42 31 0:38 /../.. /host/cgroup ro,relatime master:1 - cgroup2 cgroup2 rw
broken
`
	if got, want := cgroup2Mounts(text), []string{"/sys/fs/cgroup/uni fied", "/host/cgroup"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// On this machine: what is found is the root, from the top of the file system as well, and a cgroup below is refused.
func TestFindCgroup2(t *testing.T) {
	found, _, err := findCgroup2("", "/proc")
	need.That(t, err == nil, need.Cgroup2, fmt.Sprint(err))
	if got, _, err := findCgroup2(filepath.Dir(found), "/proc"); err != nil || !strings.HasPrefix(got, filepath.Dir(found)) {
		t.Errorf("below %s: %q, %v", filepath.Dir(found), got, err)
	}
	entries, err := os.ReadDir(found)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() {
			if got, _, err := findCgroup2(filepath.Join(found, e.Name()), "/proc"); err == nil || !strings.Contains(err.Error(), "not the root") {
				t.Errorf("cgroup %s: %q, %v", e.Name(), got, err)
			}
			break
		}
	}
	if got, _, err := findCgroup2(t.TempDir(), "/proc"); err == nil {
		t.Errorf("a folder without cgroup2: %q", got)
	}
}

func cgroupRoot(t *testing.T) string {
	t.Helper()
	root, _, err := findCgroup2("", "/proc")
	if err != nil {
		t.Fatal(err)
	}
	return root
}
