package main

import (
	"bufio"
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

// number of the test's cluster: no other that runs on the machine.
const number = "98"

// harness builds the program once and gives a way to prepare its commands, for a cluster in dir.
func harness(t *testing.T, dir string) func(args ...string) *exec.Cmd {
	t.Helper()
	switch {
	case os.Getenv("AMBIT_TEST_REQUIRE") != "cluster":
		t.Skip("builds and runs whole clusters: AMBIT_TEST_REQUIRE=cluster, or make test-cluster")
	case os.Getuid() != 0:
		t.Fatal("needs root")
	}
	program := filepath.Join(t.TempDir(), "cluster")
	if out, err := exec.Command("go", "build", "-trimpath", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	command := func(args ...string) *exec.Cmd {
		return exec.Command(program, append(args, "--tree=../..", "--dir="+dir, "--number="+number)...)
	}
	t.Cleanup(func() {
		if out, err := command("down").CombinedOutput(); err != nil {
			t.Errorf("down: %v: %s", err, out)
		}
		checkNothingLeft(t, dir)
	})
	return command
}

// checkNothingLeft looks at the machine itself, not at what the program believes.
func checkNothingLeft(t *testing.T, dir string) {
	t.Helper()
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if strings.HasPrefix(l.Attrs().Name, "ambit-c"+number) {
			t.Errorf("left: link %s", l.Attrs().Name)
		}
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("left: folder %s (%v)", dir, err)
	}
	if mounts, err := os.ReadFile("/proc/mounts"); err != nil || strings.Contains(string(mounts), dir) {
		t.Errorf("left: a mount of %s (%v)", dir, err)
	}
	if err := filepath.WalkDir(cgroupRoot, func(path string, d fs.DirEntry, _ error) error {
		if d != nil && d.IsDir() && d.Name() == "ambit-c"+number {
			t.Errorf("left: control group %s", path)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if pids, err := processesOf(dir); err != nil || len(pids) > 0 {
		t.Errorf("left: processes %v (%v)", pids, err)
	}
	groups, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range groups {
		pid, _ := strconv.Atoi(strings.Split(path, "/")[2])
		text, _ := os.ReadFile(path) // gone meanwhile: fine
		if _, living := parentOf(pid); living && strings.Contains(string(text), "ambit-c"+number) {
			t.Errorf("left: process %d, in %s", pid, text)
		}
	}
}

func run(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	began := time.Now()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args[1:], err, out)
	}
	t.Logf("%.1f s  %v\n%s", time.Since(began).Seconds(), cmd.Args[1:], out)
	return string(out)
}

// TestLife: a cluster comes up, is one, comes up again at once, survives a node's reboot, and leaves nothing.
func TestLife(t *testing.T) {
	for name, flags := range map[string][]string{"two nodes": nil, "three nodes of two families": {"--nodes=3", "--dual"}} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "c")
			command := harness(t, dir)
			up := func() string { return run(t, command(append([]string{"up"}, flags...)...)) }
			up()
			run(t, command("smoke"))
			if again := up(); strings.Contains(again, "control plane") {
				t.Errorf("up, when it was up, began again: %s", again)
			}
			run(t, command("reboot", "n1"))
			run(t, command("smoke"))
			if out := run(t, command("exec", "n2", "cat", "/proc/sys/kernel/hostname")); out != "n2\n" {
				t.Errorf("hostname of n2: %q", out)
			}
			run(t, command("status"))
			run(t, command("down"))
			checkNothingLeft(t, dir)
		})
	}
}

// TestCrash: whatever step of up is cut off by kill -9, down leaves nothing, and another up needs no down.
func TestCrash(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "c")
	command := harness(t, dir)
	run(t, command("up")) // what has to be built is
	run(t, command("down"))
	for _, after := range []string{"images", "control plane", "nodes", "the mesh's resources", "load balancer"} {
		crash(t, command("up"), after)
		run(t, command("down"))
		checkNothingLeft(t, dir)
	}
	crash(t, command("up"), "nodes")
	run(t, command("up"))
	run(t, command("smoke"))
}

// crash runs up and kills it when it tells that a step is done: then the next has begun.
func crash(t *testing.T, cmd *exec.Cmd, after string) {
	t.Helper()
	steps, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })()
	reached := false
	for lines := bufio.NewScanner(steps); !reached && lines.Scan(); {
		reached = strings.Contains(lines.Text(), after)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if !reached {
		t.Fatalf("up never told of %s", after)
	}
}
