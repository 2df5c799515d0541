package datapath

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ambit-mesh/ambit/agent/datapath/plan"
	"github.com/ambit-mesh/ambit/agent/netns"
	"github.com/ambit-mesh/ambit/test/need"
)

// The test binary plays other processes too: argument vectors of its own would have to pass the flag package, so the role comes in
// the environment.
func TestMain(m *testing.M) {
	switch os.Getenv("AMBIT_TEST_CHILD") {
	case "loader":
		os.Exit(childLoader())
	case "dialer":
		os.Exit(childDialer())
	case "sleeper":
		ended := make(chan os.Signal, 1)
		signal.Notify(ended, unix.SIGTERM) // a bare select is a deadlock to the runtime
		<-ended
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func child(t testing.TB, role string, files []*os.File, env ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), must[string](t)(os.Executable()))
	cmd.Env = append(append(os.Environ(), "AMBIT_TEST_CHILD="+role), env...)
	cmd.ExtraFiles = files
	cmd.Stderr = t.Output()
	return cmd
}

// childLoader is an agent: it loads, enrols the pod of file 3, says so and waits to be killed.
func childLoader() int {
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, "loader:", err)
		return 1
	}
	d, err := Load(Config{PinDir: os.Getenv("PINS")})
	if err != nil {
		return fail(err)
	}
	ns, err := netns.FromFile(os.NewFile(3, "netns"))
	if err != nil {
		return fail(err)
	}
	done, err := d.Enroll(ns, Pod{
		IPv4: netip.MustParseAddr(os.Getenv("IP4")), IPv6: netip.MustParseAddr(os.Getenv("IP6")),
		DNS: true, ProbePorts: []uint16{80},
	})
	if err != nil {
		return fail(err)
	}
	fmt.Println(done.Cookie)
	select {}
}

// childDialer connects once from the namespace of file 3 and reports what it reads.
func childDialer() int {
	ns, err := netns.FromFile(os.NewFile(3, "netns"))
	if err == nil {
		err = ns.Do(func() error {
			c, err := net.DialTimeout("tcp", os.Getenv("TO"), patience)
			if err != nil {
				return err
			}
			defer c.Close()
			text, err := readLine(c)
			fmt.Println(text)
			return err
		})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "dialer:", err)
		return 1
	}
	return 0
}

// The agent is killed: capture goes on, and the next one finds the pod enrolled.
func TestAdoptionAfterAKill(t *testing.T) {
	n := newNode(t)
	cfg := testConfig(t)
	client, server := n.pod(), n.pod()
	serve(server.listen("tcp", "[::]:8080"))
	file := dupFile(t, client.ns.Fd())
	cmd := child(t, "loader", []*os.File{file}, "PINS="+cfg.PinDir, "IP4="+client.ip4.String(), "IP6="+client.ip6.String())
	out := must[io.ReadCloser](t)(cmd.StdoutPipe())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	scan := bufio.NewScanner(out)
	if !scan.Scan() || scan.Text() != fmt.Sprint(client.cookie()) {
		t.Fatalf("the loader says %q", scan.Text())
	}
	cmd.Process.Kill()
	cmd.Wait()

	// Nobody runs, and nothing passes the mesh.
	if _, err := dialIn(t, client.ns, "tcp", ap(server.ip4, 8080).String(), patience); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("connect without an agent: %v, want %v", err, unix.ECONNREFUSED)
	}
	d := load(t, cfg)
	want := []Pod{{Cookie: client.cookie(), IPv4: client.ip4, IPv6: client.ip6, DNS: true, ProbePorts: []uint16{80}}}
	if got := d.Enrolled(); len(got) != 1 || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("adopted %v, want %v", got, want)
	}
	m := newMesh(d, client)
	c := client.dial("tcp", ap(server.ip4, 8080).String())
	line(t, c)
	c.Close()
	if m.accepted[RoleOutbound].Load() != 1 {
		t.Error("not captured after adoption")
	}
	if _, err := d.Enroll(client.ns, want[0]); err != nil {
		t.Errorf("enrol again: %v", err)
	}
	m.stop()
	if err := d.Remove(func(uint64) *netns.Handle { return client.ns }); err != nil {
		t.Error(err)
	}
}

// Programs are replaced under traffic; no connection fails, and a live one goes on.
func TestUpgradeInPlace(t *testing.T) {
	n := newNode(t)
	cfg := testConfig(t)
	d := load(t, cfg)
	client, server := n.pod(), n.pod()
	m := enrol(d, client)
	serve(server.listen("tcp", "[::]:8080"))
	to := ap(server.ip4, 8080).String()
	live := client.dial("tcp", to)
	line(t, live)
	stop := make(chan struct{})
	var all sync.WaitGroup
	made := make([]int, 4)
	for i := range made {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				c, err := dialIn(t, client.ns, "tcp", to, patience)
				if err != nil {
					t.Errorf("connection %d: %v", made[i], err)
					return
				}
				if _, err := readLine(c); err != nil {
					t.Errorf("connection %d: %v", made[i], err)
				}
				if got := c.RemoteAddr().String(); got != to {
					t.Errorf("peer %s", got)
				}
				c.Close()
				made[i]++
			}
		})
	}
	before := m.accepted[RoleOutbound].Load()
	for range 5 {
		next, err := Load(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if len(next.Enrolled()) != 1 {
			t.Error("the pod is not enrolled any more")
		}
		next.Close()
	}
	eventually(t, "connections were made meanwhile", func() bool { return m.accepted[RoleOutbound].Load() > before+8 })
	close(stop)
	all.Wait()
	total := int64(0)
	for _, n := range made {
		total += int64(n)
	}
	if got := m.accepted[RoleOutbound].Load() - 1; got != total {
		t.Errorf("%d connections made, %d captured", total, got)
	}
	live.SetDeadline(time.Now().Add(patience)) // the one that it was made with may have come: five verifications are slow, emulated
	fmt.Fprintln(live, "still here")
	if got := line(t, live); got != "still here" {
		t.Errorf("live connection: %q", got)
	}
}

// kernelObjects are the ids of everything that a datapath has in the kernel.
func kernelObjects(t testing.TB, d *Datapath) (progs []ebpf.ProgramID, maps []ebpf.MapID) {
	t.Helper()
	for _, p := range d.obj.progs {
		info := must[*ebpf.ProgramInfo](t)(p.Info())
		id, _ := info.ID()
		progs = append(progs, id)
	}
	for _, m := range d.obj.maps {
		info := must[*ebpf.MapInfo](t)(m.Info())
		id, _ := info.ID()
		maps = append(maps, id)
	}
	return progs, maps
}

func TestRemovalLeavesNothing(t *testing.T) {
	for _, without := range []string{"", "tcx"} {
		t.Run("without "+without, func(t *testing.T) {
			n := newNode(t)
			cfg := testConfig(t)
			cfg.Without = []string{without}
			d, err := Load(cfg)
			if err != nil {
				t.Fatal(err)
			}
			p := n.pod()
			m := newMesh(d, p)
			if _, err := d.Enroll(p.ns, p.wanted()); err != nil {
				t.Fatal(err)
			}
			m.stop()
			progs, maps := kernelObjects(t, d)
			if err := d.Remove(func(uint64) *netns.Handle { return p.ns }); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(cfg.PinDir); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("pins remain: %v", err)
			}
			for _, id := range progs {
				eventually(t, fmt.Sprintf("program %d is gone", id), func() bool {
					p, err := ebpf.NewProgramFromID(id)
					if err == nil {
						p.Close()
					}
					return errors.Is(err, os.ErrNotExist)
				})
			}
			for _, id := range maps {
				eventually(t, fmt.Sprintf("map %d is gone", id), func() bool {
					m, err := ebpf.NewMapFromID(id)
					if err == nil {
						m.Close()
					}
					return errors.Is(err, os.ErrNotExist)
				})
			}
			eth := must[netlink.Link](t)(p.nl.LinkByName("eth0"))
			qdiscs := must[[]netlink.Qdisc](t)(p.nl.QdiscList(eth))
			for _, q := range qdiscs {
				if q.Type() == "clsact" {
					t.Error("clsact remains")
				}
			}
		})
	}
}

// Two agents on one kernel and one cgroup root, whose pods even have the same addresses.
func TestTwoAgentsSideBySide(t *testing.T) {
	type half struct {
		d      *Datapath
		m      *mesh
		client *pod
		to     netip.AddrPort
	}
	var halves []half
	for range 2 {
		n := newNode(t)
		d := load(t, testConfig(t))
		client, server := n.pod(), n.pod()
		serve(server.listen("tcp", "[::]:8080"))
		halves = append(halves, half{d, enrol(d, client), client, ap(server.ip4, 8080)})
	}
	if halves[0].client.ip4 != halves[1].client.ip4 {
		t.Fatal("the test needs equal addresses")
	}
	for i, h := range halves {
		other := halves[1-i].m.accepted[RoleOutbound].Load()
		c := h.client.dial("tcp", h.to.String())
		line(t, c)
		if got := c.RemoteAddr().String(); got != h.to.String() {
			t.Errorf("peer %s", got)
		}
		c.Close()
		if h.m.accepted[RoleOutbound].Load() != 1 || halves[1-i].m.accepted[RoleOutbound].Load() != other {
			t.Error("the wrong mesh accepted")
		}
	}
	// One leaves; the other does not notice.
	halves[0].m.stop()
	if err := halves[0].d.Remove(func(uint64) *netns.Handle { return halves[0].client.ns }); err != nil {
		t.Fatal(err)
	}
	line(t, halves[0].client.dial("tcp", halves[0].to.String()))
	line(t, halves[1].client.dial("tcp", halves[1].to.String()))
	if a, b := halves[0].m.accepted[RoleOutbound].Load(), halves[1].m.accepted[RoleOutbound].Load(); a != 1 || b != 2 {
		t.Errorf("accepted %d and %d, want 1 and 2", a, b)
	}
}

// A pod leaves and joins again.
func TestWithdrawAndEnrolAgain(t *testing.T) {
	for _, without := range []string{"", "tcx"} {
		t.Run("without "+without, func(t *testing.T) {
			r := newRig(t, func(c *Config) { c.Without = []string{without} })
			live := r.client.dial("tcp", r.to.String())
			line(t, live)
			if err := r.d.Withdraw(r.client.cookie(), r.client.ns); err != nil {
				t.Fatal(err)
			}
			if n := r.captured(func() { line(t, r.client.dial("tcp", r.to.String())) }); n != 0 {
				t.Error("captured after leaving")
			}
			fmt.Fprintln(live, "still here")
			if got := line(t, live); got != "still here" || live.RemoteAddr().String() != r.to.String() {
				t.Errorf("live connection to %s: %q", live.RemoteAddr(), got)
			}
			if len(r.d.Enrolled()) != 0 {
				t.Error("still enrolled")
			}
			left := must[[]os.DirEntry](t)(os.ReadDir(r.d.podsDir()))
			if len(left) != 0 {
				t.Errorf("pins remain: %v", left)
			}
			if _, ok, err := r.d.Listener(r.client.ip4, RoleInbound); ok || err != nil {
				t.Errorf("a listener remains (%v)", err)
			}
			for i, ln := range r.mesh.lns {
				r.mesh.set(r.mesh.roles[i], ln)
			}
			if _, err := r.d.Enroll(r.client.ns, r.client.wanted()); err != nil {
				t.Fatal(err)
			}
			if n := r.captured(func() { line(t, r.client.dial("tcp", r.to.String())) }); n != 1 {
				t.Errorf("captured %d times after joining again", n)
			}
		})
	}
}

// The namespace of a pod went while no agent ran.
func TestAdoptionForgetsThePodsThatWent(t *testing.T) {
	cfg := testConfig(t)
	d := load(t, cfg)
	ns := must[*netns.Handle](t)(netns.New())
	if _, err := d.Enroll(ns, Pod{IPv4: netip.MustParseAddr("10.1.2.3")}); err != nil {
		t.Fatal(err)
	}
	d.Close()
	ns.Close()
	var again *Datapath
	eventually(t, "the pod is forgotten", func() bool { // namespaces are torn down asynchronously
		again = load(t, cfg)
		return len(again.Enrolled()) == 0
	})
	if left := must[[]os.DirEntry](t)(os.ReadDir(again.podsDir())); len(left) != 0 {
		t.Errorf("pins remain: %v", left)
	}
}

func TestEnrolmentErrors(t *testing.T) {
	cfg := testConfig(t)
	cfg.MaxPods = 2
	d := load(t, cfg)
	fresh := func() *netns.Handle {
		ns := must[*netns.Handle](t)(netns.New())
		t.Cleanup(func() { ns.Close() })
		return ns
	}
	first := fresh()
	if _, err := d.Enroll(first, Pod{IPv4: netip.MustParseAddr("10.1.2.3")}); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		pod  Pod
		want error
	}{
		{"no address", Pod{}, plan.ErrInvalid},
		{"address taken", Pod{IPv4: netip.MustParseAddr("10.1.2.3")}, plan.ErrTaken},
		{"loopback", Pod{IPv4: netip.MustParseAddr("127.0.0.1")}, plan.ErrInvalid},
		{"mapped", Pod{IPv6: netip.MustParseAddr("::ffff:10.1.2.4")}, plan.ErrInvalid},
	} {
		if _, err := d.Enroll(fresh(), tc.pod); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
	}
	if _, err := d.Enroll(fresh(), Pod{Cookie: 1, IPv4: netip.MustParseAddr("10.1.2.4")}); err == nil {
		t.Error("enrolled with somebody else's cookie")
	}
	if _, err := d.Enroll(fresh(), Pod{IPv4: netip.MustParseAddr("10.1.2.5")}); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Enroll(fresh(), Pod{IPv4: netip.MustParseAddr("10.1.2.6")}); !errors.Is(err, ErrLimit) {
		t.Errorf("third pod: %v, want %v", err, ErrLimit)
	}
	if got := d.Enrolled(); len(got) != 2 {
		t.Errorf("enrolled %v", got)
	}
	if dirs := must[[]os.DirEntry](t)(os.ReadDir(d.podsDir())); len(dirs) != 2 {
		t.Errorf("pins of refused pods remain: %v", dirs)
	}
}

func TestPinsOfAnotherLayoutAreReplaced(t *testing.T) {
	cfg := testConfig(t)
	old := filepath.Join(cfg.PinDir, "v0", "maps")
	if err := os.MkdirAll(old, 0o700); err != nil {
		t.Fatal(err)
	}
	m := must[*ebpf.Map](t)(ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1}))
	defer m.Close()
	if err := m.Pin(filepath.Join(old, "ambit_pods")); err != nil {
		t.Fatal(err)
	}
	foreign := filepath.Join(cfg.PinDir, "somebody")
	if err := os.Mkdir(foreign, 0o700); err != nil {
		t.Fatal(err)
	}
	load(t, cfg)
	if _, err := os.Stat(filepath.Join(cfg.PinDir, "v0")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("old pins remain: %v", err)
	}
	if err := Clean(cfg.PinDir); err != nil {
		t.Fatal(err)
	}
	left := must[[]os.DirEntry](t)(os.ReadDir(cfg.PinDir))
	if len(left) != 1 || left[0].Name() != "somebody" {
		t.Errorf("left %v, want what is not ours and nothing else", left)
	}
}

func TestMissingFeaturesAreNamed(t *testing.T) {
	need.Root(t, "loads kernel programs")
	_, err := Probe("sk_lookup", "netns cookie in sockops")
	if err == nil || !strings.Contains(err.Error(), "sk_lookup (Linux 5.9)") || !strings.Contains(err.Error(), "netns cookie in sockops (Linux 5.15)") {
		t.Errorf("probe: %v", err)
	}
	f, err := Probe("tcx", "bpf_sock_destroy", "bpf_set_retval")
	if err != nil {
		t.Fatal(err)
	}
	if said := f.Degraded(); f != (Features{}) || len(said) != 3 {
		t.Errorf("features %+v, said %q", f, said)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	d := load(t, testConfig(t))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.Run(ctx); err != nil {
		t.Error(err)
	}
}

func TestPinDirectoryMustBeOnABpffs(t *testing.T) {
	need.Root(t, "loads kernel programs")
	if _, err := Load(Config{PinDir: t.TempDir()}); err == nil || !strings.Contains(err.Error(), "bpffs") {
		t.Errorf("load: %v", err)
	}
}
