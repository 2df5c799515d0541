package podnet

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/ambit-mesh/ambit/agent/netns"
	"github.com/ambit-mesh/ambit/agent/netns/netnstest"
	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// namespace makes one with a device that has an address of each family.
func namespace(t *testing.T) (*netns.Handle, uint64) {
	t.Helper()
	h, cookie := netnstest.New(t)
	if err := h.Do(func() error {
		if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "peer"}); err != nil {
			return err
		}
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		for _, text := range []string{"10.9.8.7/24", "fd09::7/64"} {
			addr, err := netlink.ParseAddr(text)
			if err != nil {
				return err
			}
			if err := netlink.AddrAdd(link, addr); err != nil {
				return err
			}
		}
		return netlink.LinkSetUp(link)
	}); err != nil {
		t.Fatal(err)
	}
	return h, cookie
}

func TestLook(t *testing.T) {
	h, _ := namespace(t)
	f, err := Look(h)
	if err != nil {
		t.Fatal(err)
	}
	v4, v6 := netip.MustParseAddr("10.9.8.7"), netip.MustParseAddr("fd09::7")
	if !f.IPv6 || len(f.Addrs) != 2 || !f.Holds([]netip.Addr{v4}) || !f.Holds([]netip.Addr{netip.MustParseAddr("1.2.3.4"), v6}) {
		t.Errorf("facts %+v", f)
	}
	if f.Holds([]netip.Addr{netip.MustParseAddr("127.0.0.1")}) || f.Holds(nil) {
		t.Error("loopback or nothing tells namespaces apart")
	}
	if len(f.Devices) != 2 || f.Devices[0].Index < 2 || f.Devices[0].Name == f.Devices[1].Name {
		t.Errorf("devices %+v", f.Devices)
	}
}

func current(t *testing.T, h *netns.Handle) Values {
	t.Helper()
	var now Values
	if err := h.Do(func() (err error) { now, _, err = readAll("/proc/sys"); return err }); err != nil {
		t.Fatal(err)
	}
	return now
}

func TestSettingsSurviveTheAgentAndAreGivenBack(t *testing.T) {
	h, cookie := namespace(t)
	if err := h.Do(func() error { return writeAll("/proc/sys", []Write{{reservedPorts, "9000-9002"}}) }); err != nil {
		t.Fatal(err)
	}
	before := current(t, h)
	s := &Settings{Dir: filepath.Join(t.TempDir(), "settings"), Ports: ports}
	for range 2 { // the second is a restarted agent's, which must not remember our own values as the pod's
		if missing, err := s.Apply(h, cookie); err != nil || len(missing) > 0 {
			t.Fatal(missing, err)
		}
		s = &Settings{Dir: s.Dir, Ports: ports}
	}
	if got := current(t, h); got[twReuse] != "1" || got[reservedPorts] != "9000-9002,15001,15006,15008,15053" || got[migrateReq] != "1" {
		t.Errorf("applied: %v", got)
	}
	if list, err := s.Remembered(); err != nil || !cmp.Equal(list, []uint64{cookie}) {
		t.Errorf("remembered %v, %v", list, err)
	}
	if err := s.Restore(h, cookie); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(before, current(t, h)); d != "" {
		t.Errorf("given back (-want +got):\n%s", d)
	}
	if list, err := s.Remembered(); err != nil || len(list) > 0 {
		t.Errorf("still remembered: %v, %v", list, err)
	}
	if err := s.Restore(h, cookie); err != nil {
		t.Errorf("a second restore: %v", err)
	}
}

func TestEmptyPortsAreGivenBack(t *testing.T) {
	h, cookie := namespace(t)
	s := &Settings{Dir: t.TempDir(), Ports: ports}
	if _, err := s.Apply(h, cookie); err != nil {
		t.Fatal(err)
	}
	if err := s.Restore(h, cookie); err != nil {
		t.Fatal(err)
	}
	if got := current(t, h)[reservedPorts]; got != "" {
		t.Errorf("reserved ports %q remain", got)
	}
}

// In a container /proc/sys is read-only. A mount of the host's shows the settings of the namespace that the thread is in too.
func TestSettingsThroughAnotherMount(t *testing.T) {
	h, cookie := namespace(t)
	sys := t.TempDir()
	if err := os.Mkdir(filepath.Join(sys, "net"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("/proc/sys/net", filepath.Join(sys, "net"), "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(filepath.Join(sys, "net"), unix.MNT_DETACH)
	before := current(t, h)
	s := &Settings{Dir: t.TempDir(), Ports: ports, Sys: sys}
	if missing, err := s.Apply(h, cookie); err != nil || len(missing) > 0 {
		t.Fatal(missing, err)
	}
	if got := current(t, h); got[twReuse] != "1" || got[reservedPorts] == before[reservedPorts] {
		t.Errorf("applied: %v", got)
	}
	if err := s.Restore(h, cookie); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(before, current(t, h)); d != "" {
		t.Errorf("given back (-want +got):\n%s", d)
	}
}

func TestADamagedMemoryIsAnError(t *testing.T) {
	h, cookie := namespace(t)
	s := &Settings{Dir: t.TempDir(), Ports: ports}
	for _, text := range []string{"{", `{"../../etc/passwd":"x"}`} {
		if err := os.WriteFile(s.path(cookie), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Apply(h, cookie); err == nil {
			t.Errorf("%s was accepted by Apply", text)
		}
		if err := s.Restore(h, cookie); err == nil {
			t.Errorf("%s was accepted by Restore", text)
		}
	}
}
