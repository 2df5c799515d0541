// Package podnet answers what a pod's network namespace looks like (its addresses and devices) and keeps the few settings
// there that the mesh wants, giving the old ones back when the pod leaves. It installs no rule, route or device, and it
// decides nothing about pods: the agent's reconcile loop calls it. Nobody else asks netlink about addresses and devices;
// agent/datapath attaches to devices with it.
//
// What to write is decided by pure functions (plan.go, ports.go); Settings.Apply and Settings.Restore do it. Calls for
// different namespaces may run at once; for one namespace the caller takes turns.
package podnet

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/ambit-mesh/ambit/agent/netns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Facts are what a network namespace has.
type Facts struct {
	Addrs   []netip.Addr // of all devices but loopback; neither link-local nor mapped
	Devices []Device     // all but loopback
	IPv6    bool         // AF_INET6 sockets can be made
}

// Device is a network device, by the index that eBPF links want.
type Device struct {
	Index int
	Name  string
}

// Look reads the facts of a namespace.
func Look(h *netns.Handle) (Facts, error) {
	var f Facts
	err := h.Do(func() error {
		f = Facts{IPv6: hasIPv6()}
		nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return fmt.Errorf("netlink: %w", err)
		}
		defer nl.Close()
		links, err := whole(nl.LinkList)
		if err != nil {
			return fmt.Errorf("list devices: %w", err)
		}
		addrs, err := whole(func() ([]netlink.Addr, error) { return nl.AddrList(nil, netlink.FAMILY_ALL) })
		if err != nil {
			return fmt.Errorf("list addresses: %w", err)
		}
		f.Devices, f.Addrs = devices(links), addresses(links, addrs)
		return nil
	})
	return f, err
}

// Holds tells whether the namespace has one of addrs, which tells a pod's namespace from another's.
func (f Facts) Holds(addrs []netip.Addr) bool {
	for _, want := range addrs {
		for _, have := range f.Addrs {
			if have == want.Unmap() {
				return true
			}
		}
	}
	return false
}

func devices(links []netlink.Link) []Device {
	var list []Device
	for _, l := range links {
		if l.Attrs().Flags&net.FlagLoopback == 0 {
			list = append(list, Device{Index: l.Attrs().Index, Name: l.Attrs().Name})
		}
	}
	return list
}

func addresses(links []netlink.Link, addrs []netlink.Addr) []netip.Addr {
	loopback := map[int]bool{}
	for _, l := range links {
		loopback[l.Attrs().Index] = l.Attrs().Flags&net.FlagLoopback != 0
	}
	var list []netip.Addr
	for _, a := range addrs {
		ip, ok := netip.AddrFromSlice(a.IP)
		if ip = ip.Unmap(); ok && !loopback[a.LinkIndex] && !ip.IsLinkLocalUnicast() && !ip.IsLoopback() {
			list = append(list, ip)
		}
	}
	return list
}

func hasIPv6() bool {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	unix.Close(fd)
	text, err := os.ReadFile("/proc/sys/net/ipv6/conf/all/disable_ipv6")
	return err == nil && len(text) > 0 && text[0] == '0'
}

// whole repeats a dump that the kernel says was interrupted by a change: half a list looks like things gone.
func whole[T any](list func() ([]T, error)) ([]T, error) {
	var got []T
	var err error
	for range 10 {
		if got, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) && !errors.Is(err, unix.EINTR) {
			return got, err
		}
	}
	return nil, err
}
