package datapath

import (
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/ambit-mesh/ambit/test/need"
)

// kubelet makes this process the node's kubelet.
func kubelet(t testing.TB, d *Datapath, n *node) {
	t.Helper()
	k := must[Kubelet](t)(FindProcess("/proc", d.cfg.CgroupRoot, os.Getpid()))
	k.Netns = must[uint64](t)(n.ns.Cookie())
	if err := d.SetKubelet(k); err != nil {
		t.Fatal(err)
	}
}

// fromStranger connects from the node's namespace as another process.
func fromStranger(t testing.TB, n *node, to netip.AddrPort) string {
	t.Helper()
	f := dupFile(t, n.ns.Fd())
	out, err := child(t, "dialer", []*os.File{f}, "TO="+to.String()).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

func TestKubeletProbes(t *testing.T) {
	r := newRig(t)
	n := r.client.node
	serve(r.client.listen("tcp", "[::]:8080"))
	kubelet(t, r.d, n)
	if err := r.d.SetProbePorts(r.client.cookie(), []uint16{8080}); err != nil {
		t.Fatal(err)
	}
	inbound := func(f func()) int64 {
		before := r.mesh.accepted[RoleInbound].Load()
		f()
		return r.mesh.accepted[RoleInbound].Load() - before
	}
	probe := func(a netip.Addr, port uint16) string {
		t.Helper()
		return line(t, must[netConn](t)(dialIn(t, n.ns, "tcp", ap(a, port).String(), patience)))
	}
	for _, strict := range []bool{false, true} {
		pod := r.client.wanted()
		pod.Strict, pod.ProbePorts = strict, []uint16{8080}
		if _, err := r.d.Enroll(r.client.ns, pod); err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if n := inbound(func() { probe(r.client.addr(f.v6), 8080) }); n != 0 {
				t.Errorf("%s strict %v: kubelet's probe met the mesh", f.name, strict)
			}
			if n := inbound(func() { fromStranger(t, n, ap(r.client.addr(f.v6), 8080)) }); n != 1 {
				t.Errorf("%s strict %v: another process of the host reached the application past the mesh", f.name, strict)
			}
		}
	}
	if a, s := count(t, r.d, ProbeAdmitted), count(t, r.d, ProbeStranger); a != 4 || s != 4 {
		t.Errorf("counted %d admitted, %d strangers", a, s)
	}
	if n := count(t, r.d, EgressProbe); n == 0 {
		t.Error("the backstop saw no answers to probes")
	}
	if n := count(t, r.d, EgressDropped); n != 0 {
		t.Errorf("the backstop dropped %d", n)
	}

	// A port that the pod does not declare.
	serve(r.client.listen("tcp", "[::]:9090"))
	if n := inbound(func() { probe(r.client.ip4, 9090) }); n != 1 {
		t.Error("kubelet reached a port past the mesh that is no probe's")
	}
	if err := r.d.SetProbePorts(r.client.cookie(), nil); err != nil {
		t.Fatal(err)
	}
	if n := inbound(func() { probe(r.client.ip4, 8080) }); n != 1 {
		t.Error("kubelet reached a port past the mesh that is no probe's any more")
	}
}

// The tuple lives until kubelet's socket closes, and no longer.
func TestProbeTupleGoesWithItsSocket(t *testing.T) {
	r := newRig(t)
	serve(r.client.listen("tcp", "[::]:8080"))
	kubelet(t, r.d, r.client.node)
	if err := r.d.SetProbePorts(r.client.cookie(), []uint16{8080}); err != nil {
		t.Fatal(err)
	}
	c := must[netConn](t)(dialIn(t, r.client.node.ns, "tcp", ap(r.client.ip4, 8080).String(), patience))
	line(t, c)
	if n := slots(t, r.d); n != 2 { // slot and steer
		t.Errorf("%d entries during the probe, want 2", n)
	}
	c.Close()
	if n := slots(t, r.d); n != 0 {
		t.Errorf("%d entries after the probe", n)
	}
}

func TestKubeletMustBeIdentified(t *testing.T) {
	r := newRig(t)
	serve(r.client.listen("tcp", "[::]:8080"))
	if err := r.d.SetProbePorts(r.client.cookie(), []uint16{8080}); err != nil {
		t.Fatal(err)
	}
	for _, k := range []Kubelet{{Netns: 1}, {PID: 1, PIDNS: 1, Start: 1}, {Netns: 1, PID: 7}, {Netns: 1, PID: 7, Start: 1}} {
		if err := r.d.SetKubelet(k); err == nil {
			t.Errorf("%+v accepted", k)
		}
	}
	line(t, must[netConn](t)(dialIn(t, r.client.node.ns, "tcp", ap(r.client.ip4, 8080).String(), patience)))
	if r.mesh.accepted[RoleInbound].Load() != 1 {
		t.Error("somebody passed as kubelet although nobody is")
	}
	// The right pid with another start is another process.
	k := must[Kubelet](t)(FindProcess("/proc", t.TempDir(), os.Getpid())) // by itself: it is in no cgroup there
	k.Netns, k.Start = must[uint64](t)(r.client.node.ns.Cookie()), k.Start-1
	if err := r.d.SetKubelet(k); err != nil {
		t.Fatal(err)
	}
	line(t, must[netConn](t)(dialIn(t, r.client.node.ns, "tcp", ap(r.client.ip4, 8080).String(), patience)))
	if r.mesh.accepted[RoleInbound].Load() != 2 {
		t.Error("a process with kubelet's reused pid passed")
	}
}

func TestStartOf(t *testing.T) {
	stat := "12 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20 21"
	if got, err := startOf(stat); err != nil || got != 4711 {
		t.Errorf("got %d, %v", got, err)
	}
	for i := range stat {
		startOf(stat[:i]) // must not panic
	}
	for _, bad := range []string{"", "12 name S", "12 (a) S 1 2", "12 (a) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 x 20"} {
		if _, err := startOf(bad); err == nil {
			t.Errorf("%q accepted", bad)
		}
	}
}

// kubelet's cgroup identifies it where nothing else lives in it.
func TestFindProcessByCgroup(t *testing.T) {
	need.Root(t, "makes a cgroup and a network namespace")
	root := cgroupRoot(t)
	dir := must[string](t)(os.MkdirTemp(root, "ambit-test-"))
	defer os.Remove(dir)
	n := newNode(t)
	f := dupFile(t, n.ns.Fd())
	cmd := child(t, "sleeper", []*os.File{f})
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cmd.Process.Kill(); cmd.Wait() }()
	if err := os.WriteFile(dir+"/cgroup.procs", []byte(itoa(cmd.Process.Pid)), 0); err != nil {
		t.Fatal(err)
	}
	k := must[Kubelet](t)(FindProcess("/proc", root, cmd.Process.Pid))
	if k.Cgroup == 0 || k.PID != 0 {
		t.Errorf("found %+v, want a cgroup", k)
	}
	if alone := must[Kubelet](t)(FindProcess("/proc", root, os.Getpid())); alone.Cgroup == k.Cgroup {
		t.Error("two processes of different cgroups look alike")
	}
}
