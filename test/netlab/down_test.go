package netlab_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/ambit-mesh/ambit/test/netlab"
	"github.com/ambit-mesh/ambit/test/netlab/labtest"
)

// What an agent pinned and left attached goes with the lab.
func TestDownDetachesWhatIsPinned(t *testing.T) {
	lab := labtest.Up(t, "pins")
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.CGroupSockAddr, AttachType: ebpf.AttachCGroupInet4Connect, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer prog.Close()
	l, err := link.AttachCgroup(link.CgroupOptions{Path: filepath.Dir(lab.KubeletCgroup("n1")), Attach: ebpf.AttachCGroupInet4Connect, Program: prog})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Pin(filepath.Join(lab.BPF(), "connect4")); err != nil {
		t.Fatal(err)
	}
	info, err := l.Info()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if ids, err := lab.Links(); err != nil || len(ids) != 1 || ids[0] != int(info.ID) {
		t.Errorf("links of the lab: %v %v, want %d", ids, err, info.ID)
	}
	if err := lab.Down(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
	if still, err := link.NewFromID(info.ID); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("link %d after down: %v %v", info.ID, still, err)
	}
}

// A process outlives its starter's handle, is told apart from a successor, and can be started again under its name.
func TestProcessesAreKilledAndStartedAgain(t *testing.T) {
	lab := labtest.Up(t, "proc")
	pod := addPod(t, lab, "shop", "a", "n1")
	spec := netlab.Spec{Name: "sleeper", Pod: pod.Ref(), Argv: []string{"sleep", "1000"}}
	first, err := lab.Start(spec)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lab.Start(spec); err == nil {
		t.Error("a second process of the same name was started")
	}
	if err := first.Stop(t.Context(), unix.SIGKILL, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	if err := first.Signal(unix.SIGTERM); err == nil {
		t.Error("a dead process took a signal")
	}
	second, err := lab.Start(spec)
	if err != nil {
		t.Fatal(err)
	}
	found, err := lab.Process("sleeper")
	if err != nil || found.PID != second.PID || !found.Alive() || first.Alive() {
		t.Errorf("found %+v (%v), started %+v", found, err, second)
	}
}

// A program without privileges has none, and cannot get any; nor has another user's. Either may lie where only root may look:
// in a clone in root's home, built with a narrow umask.
func TestNoPrivileges(t *testing.T) {
	lab := labtest.Up(t, "bare")
	pod := addPod(t, lab, "shop", "a", "n1")
	closed := t.TempDir()
	shell, err := os.ReadFile("/bin/sh")
	if err := errors.Join(err, os.Chmod(closed, 0o700), os.WriteFile(filepath.Join(closed, "sh"), shell, 0o700)); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		bare  bool
		lines string
	}{
		{true, "CapInh:0000000000000000\nCapPrm:0000000000000000\nCapEff:0000000000000000\nCapBnd:0000000000000000\nCapAmb:0000000000000000\nNoNewPrivs:1\n"},
		{false, "CapInh:0000000000000000\nCapPrm:0000000000000000\nCapEff:0000000000000000\nCapAmb:0000000000000000\nNoNewPrivs:0\n"},
	} {
		fields := "Inh|Prm|Eff|Amb"
		if tc.bare {
			fields += "|Bnd"
		}
		out, err := lab.Exec(t.Context(), netlab.Spec{Pod: pod.Ref(), User: "1337", NoPrivileges: tc.bare, Argv: []string{
			filepath.Join(closed, "sh"), "-c", `id -u; grep -E "^(Cap(` + fields + `)|NoNewPrivs):" /proc/self/status | tr -d '\t'; cat ` + closed + `/sh || true`,
		}})
		if err := errors.Join(err, out.Err()); err != nil {
			t.Fatal(err)
		}
		if out.Stdout != "1337\n"+tc.lines {
			t.Errorf("no privileges %v: %s", tc.bare, out.Stdout)
		}
	}
}
