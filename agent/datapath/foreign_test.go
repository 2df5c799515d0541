package datapath

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"github.com/ambit-mesh/ambit/test/need"
)

// testCgroup is a cgroup of the test's own, below the root.
func testCgroup(t *testing.T) string {
	t.Helper()
	need.Root(t, "attaches kernel programs to a cgroup of its own")
	dir := must[string](t)(os.MkdirTemp(cgroupRoot(t), "ambit-test-"))
	t.Cleanup(func() {
		if err := os.Remove(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// passing is a program of that name that lets every connect pass.
func passing(t *testing.T, name string) *ebpf.Program {
	t.Helper()
	p := must[*ebpf.Program](t)(ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: name, Type: ebpf.CGroupSockAddr, AttachType: ebpf.AttachCGroupInet4Connect,
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()}, License: "GPL",
	}))
	t.Cleanup(func() { p.Close() })
	return p
}

var connect4 = hook{"ambit_connect4", ebpf.AttachCGroupInet4Connect}

// Programs like those of Cilium and Calico, and which of them run before ours.
func TestForeignProgramsAreNamed(t *testing.T) {
	dir := testCgroup(t)
	for _, name := range []string{"cil_sock4_connect", "ambit_connect4", "calico_connect_v4", "sd_bind4"} {
		l := must[link.Link](t)(attachHook(dir, connect4, passing(t, name)))
		t.Cleanup(func() { l.Close() })
	}
	found := must[[]Foreign](t)(ForeignPrograms(dir))
	if len(found) != 3 {
		t.Fatalf("found %v", found)
	}
	for i, want := range []struct {
		name, advice string
		after        bool
	}{{"cil_sock4_conne", "hostNamespaceOnly", false}, {"calico_connect_", "bpfConnectTimeLoadBalancing", true}, {"sd_bind4", "", true}} {
		f := found[i]
		_, advice, balances := f.Balancer()
		if f.Hook != "cgroup/connect4" || f.Name != want.name || f.After != want.after || balances != (want.advice != "") || !strings.Contains(advice, want.advice) {
			t.Errorf("%v: %q, want %+v", f, advice, want)
		}
	}
	d := load(t, testConfig(t))
	ours := must[[]Foreign](t)(d.Foreign())
	if slices.ContainsFunc(ours, func(f Foreign) bool { return strings.HasPrefix(f.Name, "ambit_") }) {
		t.Errorf("our own programs are listed: %v", ours)
	}
}

// A program that was attached to be the only one, as by tools of the time before links: the kernel says EPERM and no more.
func TestAProgramThatAdmitsNoOtherIsNamed(t *testing.T) {
	dir := testCgroup(t)
	fd := must[*os.File](t)(os.Open(dir))
	defer fd.Close()
	alone := link.RawAttachProgramOptions{Target: int(fd.Fd()), Program: passing(t, "hermit"), Attach: connect4.attach}
	if err := link.RawAttachProgram(alone); err != nil {
		t.Fatal(err)
	}
	_, err := attachHook(dir, connect4, passing(t, "ambit_connect4"))
	if err == nil || !strings.Contains(err.Error(), "hermit (id ") || !strings.Contains(err.Error(), "admits no other") {
		t.Errorf("got %v", err)
	}
	if err := link.RawDetachProgram(link.RawDetachProgramOptions{Target: int(fd.Fd()), Program: alone.Program, Attach: connect4.attach}); err != nil {
		t.Fatal(err)
	}
	l, err := attachHook(dir, connect4, passing(t, "ambit_connect4"))
	if err != nil {
		t.Fatalf("when it is gone: %v", err)
	}
	l.Close()
}
