package translate

import (
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"

	networkingapi "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"

	"github.com/ambit-mesh/ambit/controller/objects"
)

const (
	labelAllocate = "networking.istio.io/enable-autoallocate-ip"
	// vipSlots is the hosts of 240.240.0.0/16 but the first and the last, and as many of 2001:2::/48.
	vipSlots = 1<<16 - 2
)

// vipKey is one host of one ServiceEntry.
type vipKey struct {
	entry objects.Key
	host  string
}

// vip is the slot of a host in both pools; 0 is none.
type vip uint16

func (v vip) addresses() []netip.Addr {
	v4 := [4]byte{240, 240}
	binary.BigEndian.PutUint16(v4[2:], uint16(v))
	v6 := [16]byte{0x20, 0x01, 0x00, 0x02}
	binary.BigEndian.PutUint16(v6[14:], uint16(v))
	return []netip.Addr{netip.AddrFrom4(v4), netip.AddrFrom16(v6)}
}

// allocate gives every host that needs one a slot, and marks the entries whose slots changed. Older entries choose first, so
// that a new one never moves them, and the result depends on the entries only: every replica and every restart agrees.
func (t *Translator) allocate() {
	if !t.in.vipsStale {
		return
	}
	t.in.vipsStale = false
	var want []vipKey
	for _, claimants := range t.in.claims {
		for key := range claimants {
			if se, ok := t.in.objs[key].(*networkingv1.ServiceEntry); ok && allocates(se) {
				for _, host := range se.Spec.Hosts {
					want = append(want, vipKey{key, host})
				}
			}
		}
	}
	slices.SortFunc(want, func(a, b vipKey) int {
		switch {
		case a.entry == b.entry:
			return strings.Compare(a.host, b.host)
		case t.older(a.entry, b.entry):
			return -1
		default:
			return 1
		}
	})
	now := assign(slices.Compact(want), t.recorded())
	for k, v := range now {
		if t.in.vips[k] != v {
			t.dirty.add(k.entry)
		}
	}
	t.in.vips = now
}

// recorded are the slots that some entry's status holds already: they stay that entry's, whoever comes and goes.
func (t *Translator) recorded() set[vip] {
	taken := set[vip]{}
	for _, claimants := range t.in.claims {
		for key := range claimants {
			se, ok := t.in.objs[key].(*networkingv1.ServiceEntry)
			if !ok {
				continue
			}
			for _, a := range se.Status.Addresses {
				if addr, err := netip.ParseAddr(a.Value); err == nil {
					if v := slotOf(addr); v != 0 {
						taken.add(v)
					}
				}
			}
		}
	}
	return taken
}

// slotOf is the slot of an address of either pool; 0 for all others.
func slotOf(a netip.Addr) vip {
	b := a.Unmap().AsSlice()
	v := vip(binary.BigEndian.Uint16(b[len(b)-2:]))
	if own := v.addresses(); a.Unmap() != own[0] && a != own[1] {
		return 0
	}
	return v
}

// assign gives each key, in order, the first free slot from where its hash points. When the pool is full the rest have none.
func assign(keys []vipKey, taken set[vip]) map[vipKey]vip {
	out := make(map[vipKey]vip, len(keys))
	for _, k := range keys {
		if len(taken) == vipSlots {
			break
		}
		sum := sha256.Sum256([]byte(k.entry.Namespace + "/" + k.entry.Name + "/" + k.host))
		slot := binary.BigEndian.Uint64(sum[:]) % vipSlots
		for taken.has(vip(slot + 1)) {
			slot = (slot + 1) % vipSlots
		}
		taken.add(vip(slot + 1))
		out[k] = vip(slot + 1)
	}
	return out
}

// allocates reports entries that want addresses and bring none.
func allocates(se *networkingv1.ServiceEntry) bool {
	return len(se.Spec.Addresses) == 0 && se.Spec.Resolution != networkingapi.ServiceEntry_NONE && se.Labels[labelAllocate] != "false" &&
		len(se.Status.Addresses) == 0
}

// autoAddresses are the addresses of a host that brings none: those some controller wrote into the status, or ours.
func (t *Translator) autoAddresses(key objects.Key, se *networkingv1.ServiceEntry, host string) []netip.Addr {
	if se.Spec.Resolution == networkingapi.ServiceEntry_NONE || se.Labels[labelAllocate] == "false" {
		return nil
	}
	var out []netip.Addr
	for _, a := range se.Status.Addresses {
		if addr, err := netip.ParseAddr(a.Value); err == nil && (a.Host == host || a.Host == "") {
			out = append(out, addr.WithZone("").Unmap())
		}
	}
	if len(se.Status.Addresses) > 0 {
		return out
	}
	if v := t.in.vips[vipKey{key, host}]; v != 0 {
		return v.addresses()
	}
	return nil
}

// allocated are the addresses to record in the entry's status: ours, or those that are recorded already.
func (t *Translator) allocated(key objects.Key, se *networkingv1.ServiceEntry) []objects.HostAddress {
	if len(se.Spec.Addresses) > 0 {
		return nil
	}
	var out []objects.HostAddress
	for _, host := range se.Spec.Hosts {
		for _, a := range t.autoAddresses(key, se, host) {
			out = append(out, objects.HostAddress{Host: host, Value: a.String()})
		}
	}
	slices.SortFunc(out, objects.HostAddress.Compare)
	return slices.Compact(out)
}
