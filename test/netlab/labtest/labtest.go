// Package labtest builds labs for tests: it skips or fails where a lab cannot be had, builds the programs, and takes the lab
// down at the test's end, which fails the test if anything is left.
package labtest

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/ambit-mesh/ambit/test/need"
	"github.com/ambit-mesh/ambit/test/netlab"
)

// Up builds a lab whose name starts with prefix (at most 6 letters) and takes it down when the test ends.
func Up(t *testing.T, prefix string) *netlab.Lab {
	t.Helper()
	need.Root(t, "builds a lab")
	c := Config(t, fmt.Sprintf("%s%x", prefix, os.Getpid()%0xfffff))
	lab, err := netlab.Up(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			logTails(t, lab)
		}
		if err := lab.Down(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return lab
}

// Config is a lab's configuration with the programs of this tree, built on first use.
func Config(t *testing.T, name string) netlab.Config {
	t.Helper()
	build, err := builds()
	if err != nil {
		t.Fatal(err)
	}
	return netlab.Config{
		Name: name, BinDir: filepath.Join(build, "bin"), CNIDir: filepath.Join(build, "cni"),
		Records: []string{"outside.example=192.0.2.1", "outside.example=2001:db8::1"},
	}
}

// built is for machines without Go (the VM of make test-vm).
var built = flag.String("lab.build", "", "folder with bin and cni, built before; empty: build them from this tree")

// builds makes the programs once per test binary and returns the folder that holds bin and cni.
var builds = sync.OnceValues(func() (string, error) {
	if *built != "" {
		return *built, nil
	}
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	root := strings.TrimSpace(string(out))
	return filepath.Join(root, "build"), netlab.Build(root)
})

func logTails(t *testing.T, lab *netlab.Lab) {
	t.Helper()
	all, err := lab.Processes()
	if err != nil {
		t.Log(err)
	}
	for _, p := range all {
		text, _ := lab.LogText(p.Name)
		if len(text) > 2000 {
			text = "..." + text[len(text)-2000:]
		}
		t.Logf("log of %s:\n%s", p.Name, text)
	}
}
