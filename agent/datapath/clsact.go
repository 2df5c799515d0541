package datapath

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Before Linux 6.6 the backstop is a filter of the device's clsact queueing discipline, which others may share. The calls here
// act in the calling thread's network namespace.

// filterPriority is ours among the device's filters; OWNED.md lists it.
const (
	filterPriority = 15008
	filterName     = "ambit_backstop"
)

func clsact(device int) *netlink.GenericQdisc {
	return &netlink.GenericQdisc{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: device, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT},
		QdiscType:  "clsact",
	}
}

func backstopFilter(device int, prog *ebpf.Program) *netlink.BpfFilter {
	return &netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: device, Parent: netlink.HANDLE_MIN_EGRESS, Handle: 1,
			Priority: filterPriority, Protocol: unix.ETH_P_ALL,
		},
		Fd: prog.FD(), Name: filterName, DirectAction: true,
	}
}

// attachFilter puts prog in place of ours, or adds it.
func attachFilter(device int, prog *ebpf.Program) error {
	if err := netlink.QdiscAdd(clsact(device)); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("clsact: %w", err)
	}
	if err := netlink.FilterReplace(backstopFilter(device, prog)); err != nil {
		return fmt.Errorf("filter: %w", err)
	}
	return nil
}

// detachFilter removes our filter, and the discipline too if nobody else has filters there.
func detachFilter(device int) error {
	dev, err := netlink.LinkByIndex(device)
	if err != nil {
		return fmt.Errorf("device %d: %w", device, err)
	}
	ours, others := 0, 0
	for _, parent := range []uint32{netlink.HANDLE_MIN_EGRESS, netlink.HANDLE_MIN_INGRESS} {
		filters, err := listFilters(dev, parent)
		if err != nil {
			return err
		}
		for _, f := range filters {
			b, ok := f.(*netlink.BpfFilter)
			if !ok || b.Name != filterName {
				others++
				continue
			}
			ours++
			if err := netlink.FilterDel(f); err != nil {
				return fmt.Errorf("filter: %w", err)
			}
		}
	}
	if ours == 0 || others > 0 {
		return nil
	}
	if err := netlink.QdiscDel(clsact(device)); err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("clsact: %w", err)
	}
	return nil
}

// listFilters repeats a listing that a concurrent change has interrupted.
func listFilters(dev netlink.Link, parent uint32) ([]netlink.Filter, error) {
	for tries := 0; ; tries++ {
		filters, err := netlink.FilterList(dev, parent)
		if errors.Is(err, netlink.ErrDumpInterrupted) && tries < 10 {
			continue
		}
		if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) { // no such discipline
			return nil, fmt.Errorf("filters: %w", err)
		}
		return filters, nil
	}
}
