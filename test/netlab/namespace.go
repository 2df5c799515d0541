package netlab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ambit-mesh/ambit/agent/netns"
)

const netnsDir = "/run/netns"

// netnsPath is where ip-netns(8) and container runtimes look for a namespace.
func (l *Lab) netnsPath(name string) string { return filepath.Join(netnsDir, l.name+"-"+name) }

// makeNetns makes a named network namespace with its loopback up. Its name is in the state before it exists.
func (l *Lab) makeNetns(name string) (*netns.Handle, error) {
	path := l.netnsPath(name)
	if err := l.update(func(s *state) error {
		if slices.Contains(s.Netns, filepath.Base(path)) {
			return fmt.Errorf("network namespace %s exists already", path)
		}
		if _, err := os.Lstat(path); err == nil {
			return fmt.Errorf("%s exists and belongs to somebody else", path)
		}
		s.Netns = append(s.Netns, filepath.Base(path))
		return nil
	}); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(netnsDir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o444)
	if err != nil {
		return nil, fmt.Errorf("network namespace: %w", err)
	}
	f.Close()
	h, err := netns.New()
	if err != nil {
		return nil, err
	}
	if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", h.Fd()), path, "", unix.MS_BIND, ""); err != nil {
		h.Close()
		return nil, fmt.Errorf("name network namespace %s: %w", path, err)
	}
	if err := prepareNetns(h); err != nil {
		h.Close()
		return nil, err
	}
	return h, nil
}

// prepareNetns does what a container runtime does before it calls CNI. Duplicate address detection is off: it would only
// make each pod wait a second for an address that the lab itself gave out.
func prepareNetns(h *netns.Handle) error {
	if err := sysctls(h, map[string]string{
		"ipv6/conf/all/accept_dad": "0", "ipv6/conf/default/accept_dad": "0",
		"ipv6/conf/all/disable_ipv6": "0", "ipv6/conf/default/disable_ipv6": "0",
	}); err != nil {
		return err
	}
	return withLinks(h, func(nl *netlink.Handle) error {
		lo, err := nl.LinkByName("lo")
		if err != nil {
			return err
		}
		return nl.LinkSetUp(lo)
	})
}

func sysctls(h *netns.Handle, values map[string]string) error {
	return h.Do(func() error {
		for name, value := range values {
			if err := os.WriteFile("/proc/sys/net/"+name, []byte(value), 0); err != nil {
				return fmt.Errorf("sysctl: %w", err)
			}
		}
		return nil
	})
}

// withLinks gives fn a netlink handle that works inside the namespace.
func withLinks(h *netns.Handle, fn func(*netlink.Handle) error) error {
	var nl *netlink.Handle
	if err := h.Do(func() (err error) {
		nl, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		return err
	}); err != nil {
		return fmt.Errorf("netlink: %w", err)
	}
	defer nl.Close()
	return fn(nl)
}

// removeNetns takes a name away; the namespace goes with its last user.
func removeNetns(path string) error {
	err := unix.Unmount(path, unix.MNT_DETACH)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) { // EINVAL: never got mounted
		return fmt.Errorf("network namespace %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("network namespace: %w", err)
	}
	return nil
}

func mountBPF(path string) error {
	if err := unix.Mount("bpf", path, "bpf", 0, "mode=0700"); err != nil {
		return fmt.Errorf("mount a bpffs for the lab: %w", err)
	}
	return nil
}
