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

// vips are the addresses of hosts whose entries bring none.
type vips struct {
	recorded map[vip]int      // slots that entries' statuses hold, with how often: they are nobody else's, whoever comes and goes
	wanting  set[objects.Key] // entries with hosts for which none is recorded
	given    map[vipKey]vip   // to those hosts
	stale    bool
}

func newVIPs() vips {
	return vips{recorded: map[vip]int{}, wanting: set[objects.Key]{}, given: map[vipKey]vip{}}
}

func (v *vips) add(key objects.Key, se *networkingv1.ServiceEntry) {
	slots := recordedSlots(se)
	for _, slot := range slots {
		v.recorded[slot]++
	}
	wants := len(unrecorded(se)) > 0
	if wants {
		v.wanting.add(key)
	}
	v.stale = v.stale || wants || len(slots) > 0
}

func (v *vips) remove(key objects.Key, se *networkingv1.ServiceEntry) {
	slots := recordedSlots(se)
	for _, slot := range slots {
		store(v.recorded, slot, v.recorded[slot]-1, v.recorded[slot] == 1)
	}
	v.stale = v.stale || v.wanting.has(key) || len(slots) > 0
	delete(v.wanting, key)
}

// allocate gives every host that needs one a slot, and marks the entries whose slots changed. Older entries choose first, so
// that a new one never moves them, and the result depends on the entries only: every replica and every restart agrees. It costs
// work for the entries that have no address recorded: with an API server that is the newest only, as one replica records them.
func (t *Translator) allocate() {
	v := &t.in.vips
	if !v.stale {
		return
	}
	v.stale = false
	var want []vipKey
	for key := range v.wanting {
		for _, host := range unrecorded(get[*networkingv1.ServiceEntry](&t.in, key.Kind, key.Namespace, key.Name)) {
			want = append(want, vipKey{key, host})
		}
	}
	slices.SortFunc(want, func(a, b vipKey) int {
		switch {
		case a.entry == b.entry:
			return strings.Compare(a.host, b.host)
		case t.in.older(a.entry, b.entry):
			return -1
		default:
			return 1
		}
	})
	now := assign(slices.Compact(want), v.recorded)
	for k, slot := range now {
		if v.given[k] != slot {
			t.dirty.add(k.entry)
		}
	}
	for k := range v.given {
		if now[k] == 0 { // the pool is full, and an older one came
			t.dirty.add(k.entry)
		}
	}
	v.given = now
}

// slotOf is the slot of an address of either pool; 0 for all others.
func slotOf(a netip.Addr) vip {
	b := a.Unmap().AsSlice()
	v := vip(binary.BigEndian.Uint16(b[len(b)-2:]))
	if own := v.addresses(); v > vipSlots || a.Unmap() != own[0] && a != own[1] {
		return 0
	}
	return v
}

// assign gives each key, in order, the first free slot from where its hash points. When the pool is full the rest have none.
func assign(keys []vipKey, recorded map[vip]int) map[vipKey]vip {
	out := make(map[vipKey]vip, len(keys))
	taken := set[vip]{}
	for _, k := range keys {
		if len(taken)+len(recorded) >= vipSlots {
			break
		}
		sum := sha256.Sum256([]byte(k.entry.Namespace + "/" + k.entry.Name + "/" + k.host))
		slot := vip(binary.BigEndian.Uint64(sum[:])%vipSlots + 1)
		for taken.has(slot) || recorded[slot] > 0 {
			slot = slot%vipSlots + 1
		}
		taken.add(slot)
		out[k] = slot
	}
	return out
}

// allocates reports entries that may have automatic addresses.
func allocates(se *networkingv1.ServiceEntry) bool {
	return len(se.Spec.Addresses) == 0 && se.Spec.Resolution != networkingapi.ServiceEntry_NONE && se.Labels[labelAllocate] != "false"
}

// recorded are the addresses that some controller wrote into an entry's status, by host; those under "" are every host's.
func recorded(se *networkingv1.ServiceEntry) map[string][]netip.Addr {
	var out map[string][]netip.Addr
	for _, a := range se.Status.Addresses {
		if addr, err := netip.ParseAddr(a.GetValue()); err == nil {
			if out == nil {
				out = map[string][]netip.Addr{}
			}
			out[a.GetHost()] = append(out[a.GetHost()], addr.WithZone("").Unmap())
		}
	}
	return out
}

// recordedSlots are those of our pools among the addresses in the status.
func recordedSlots(se *networkingv1.ServiceEntry) []vip {
	var out []vip
	for _, list := range recorded(se) {
		for _, a := range list {
			if slot := slotOf(a); slot != 0 {
				out = append(out, slot)
			}
		}
	}
	return out
}

// unrecorded are the hosts that want an address and have none in the status.
func unrecorded(se *networkingv1.ServiceEntry) []string {
	if !allocates(se) {
		return nil
	}
	var out []string
	has := recorded(se)
	for _, host := range se.Spec.Hosts {
		if len(has[host])+len(has[""]) == 0 {
			out = append(out, host)
		}
	}
	return out
}

// autoAddresses are the addresses of the hosts of an entry that brings none: those recorded, or ours.
func (t *Translator) autoAddresses(key objects.Key, se *networkingv1.ServiceEntry) map[string][]netip.Addr {
	if !allocates(se) {
		return nil
	}
	out := map[string][]netip.Addr{}
	has := recorded(se)
	for _, host := range se.Spec.Hosts {
		out[host] = slices.Concat(has[host], has[""])
		if slot := t.in.vips.given[vipKey{key, host}]; slot != 0 && len(out[host]) == 0 {
			out[host] = slot.addresses()
		}
	}
	return out
}

// hostAddresses are addresses to record in an entry's status.
func hostAddresses(auto map[string][]netip.Addr) []objects.HostAddress {
	var out []objects.HostAddress
	for host, list := range auto {
		for _, a := range list {
			out = append(out, objects.HostAddress{Host: host, Value: a.String()})
		}
	}
	slices.SortFunc(out, objects.HostAddress.Compare)
	return slices.Compact(out)
}
