// Package plan answers what the kernel's maps must hold for a set of enrolled pods, what has to change for that, and what the
// kernel programs will then say: a model in Go of bpf/lib/verdict.h, which tests hold against the original.
//
// It is pure: no system calls, locks, clock or logger. agent/datapath applies what it decides.
package plan

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
)

// Pod is an enrolled pod as the kernel must know it.
type Pod struct {
	Cookie        uint64 // of its network namespace
	IPv4, IPv6    netip.Addr
	DNS           bool // capture DNS
	Strict        bool // the backstop drops what is not the mesh's, instead of only counting it
	BypassInbound bool // plaintext reaches the application as without a mesh
	ProbePorts    []uint16
}

// Addrs are the pod's addresses, one or two.
func (p Pod) Addrs() []netip.Addr {
	var addrs []netip.Addr
	for _, a := range []netip.Addr{p.IPv4, p.IPv6} {
		if a.IsValid() {
			addrs = append(addrs, a)
		}
	}
	return addrs
}

// Errors that a caller may want to tell apart.
var (
	ErrInvalid = errors.New("invalid pod")
	ErrTaken   = errors.New("address belongs to another enrolled pod")
)

func (p Pod) validate() error {
	switch {
	case p.Cookie == 0:
		return fmt.Errorf("%w: no network namespace", ErrInvalid)
	case !p.IPv4.IsValid() && !p.IPv6.IsValid():
		return fmt.Errorf("%w: no address", ErrInvalid)
	case p.IPv4.IsValid() && !p.IPv4.Is4():
		return fmt.Errorf("%w: %s is not an IPv4 address", ErrInvalid, p.IPv4)
	case p.IPv6.IsValid() && (!p.IPv6.Is6() || p.IPv6.Is4In6() || p.IPv6.Zone() != ""):
		return fmt.Errorf("%w: %s is not a plain IPv6 address", ErrInvalid, p.IPv6)
	case slices.Contains(p.ProbePorts, 0):
		return fmt.Errorf("%w: probe port 0", ErrInvalid)
	}
	for _, a := range p.Addrs() {
		if Near(a) || a.IsMulticast() {
			return fmt.Errorf("%w: %s cannot be a pod's address", ErrInvalid, a)
		}
	}
	return nil
}

// Local is what is known of an address where there is no cookie.
type Local struct {
	Cookie uint64
	Flags  uint32
}

// Entries is what the maps hold.
type Entries struct {
	Pods   map[uint64]Pod // without ProbePorts
	Locals map[netip.Addr]Local
	Probes map[netip.AddrPort]bool
}

// Flags in the kernel's encoding (enum ambit_pod_flag).
const (
	FlagDNS           = 1
	FlagStrict        = 2
	FlagBypassInbound = 4
)

// Flags encodes the pod's settings.
func (p Pod) Flags() (flags uint32) {
	if p.DNS {
		flags |= FlagDNS
	}
	if p.Strict {
		flags |= FlagStrict
	}
	if p.BypassInbound {
		flags |= FlagBypassInbound
	}
	return flags
}

// Want computes the entries for pods. Two pods of one address are an error ([ErrTaken]): nothing could tell their inbound
// connections apart.
func Want(pods []Pod) (Entries, error) {
	want := Entries{Pods: map[uint64]Pod{}, Locals: map[netip.Addr]Local{}, Probes: map[netip.AddrPort]bool{}}
	for _, p := range pods {
		if err := p.validate(); err != nil {
			return Entries{}, err
		}
		if _, twice := want.Pods[p.Cookie]; twice {
			return Entries{}, fmt.Errorf("%w: network namespace %d twice", ErrInvalid, p.Cookie)
		}
		entry := p
		entry.ProbePorts = nil
		want.Pods[p.Cookie] = entry
		for _, a := range p.Addrs() {
			if _, taken := want.Locals[a]; taken {
				return Entries{}, fmt.Errorf("%s: %w", a, ErrTaken)
			}
			want.Locals[a] = Local{Cookie: p.Cookie, Flags: p.Flags()}
			for _, port := range p.ProbePorts {
				want.Probes[netip.AddrPortFrom(a, port)] = true
			}
		}
	}
	return want, nil
}

// Changes turn one set of entries into another. The order of the fields is the order to apply them in: nothing that is being
// removed may be relied on, and a pod's own entry comes last, since with it the connect hooks begin to capture.
type Changes struct {
	DelPods   []uint64
	DelProbes []netip.AddrPort
	DelLocals []netip.Addr
	PutLocals []netip.Addr
	PutProbes []netip.AddrPort
	PutPods   []uint64
}

// Diff finds what has to be deleted and written. The values to write are those of want.
func Diff(have, want Entries) Changes {
	var c Changes
	for k := range have.Pods {
		if _, keep := want.Pods[k]; !keep {
			c.DelPods = append(c.DelPods, k)
		}
	}
	for k := range have.Locals {
		if _, keep := want.Locals[k]; !keep {
			c.DelLocals = append(c.DelLocals, k)
		}
	}
	for k := range have.Probes {
		if !want.Probes[k] {
			c.DelProbes = append(c.DelProbes, k)
		}
	}
	for k, v := range want.Locals {
		if have.Locals[k] != v {
			c.PutLocals = append(c.PutLocals, k)
		}
	}
	for k := range want.Probes {
		if !have.Probes[k] {
			c.PutProbes = append(c.PutProbes, k)
		}
	}
	for k, v := range want.Pods {
		if h, ok := have.Pods[k]; !ok || !same(h, v) {
			c.PutPods = append(c.PutPods, k)
		}
	}
	slices.Sort(c.DelPods)
	slices.Sort(c.PutPods)
	slices.SortFunc(c.DelLocals, netip.Addr.Compare)
	slices.SortFunc(c.PutLocals, netip.Addr.Compare)
	slices.SortFunc(c.DelProbes, netip.AddrPort.Compare)
	slices.SortFunc(c.PutProbes, netip.AddrPort.Compare)
	return c
}

func same(a, b Pod) bool {
	return a.Cookie == b.Cookie && a.IPv4 == b.IPv4 && a.IPv6 == b.IPv6 && a.Flags() == b.Flags()
}

// List reads the pods back out of entries, probe ports included: what a restarted agent finds.
func (e Entries) List() []Pod {
	pods := slices.SortedFunc(maps.Values(e.Pods), func(a, b Pod) int {
		if a.Cookie < b.Cookie {
			return -1
		}
		return 1
	})
	for i, p := range pods {
		ports := map[uint16]bool{}
		for ap := range e.Probes {
			if ap.Addr() == p.IPv4 || ap.Addr() == p.IPv6 {
				ports[ap.Port()] = true
			}
		}
		pods[i].ProbePorts = slices.Sorted(maps.Keys(ports))
	}
	return pods
}
