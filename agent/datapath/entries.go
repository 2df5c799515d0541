package datapath

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/ambit-mesh/ambit/agent/datapath/plan"
	"github.com/ambit-mesh/ambit/bpf"
)

func parseCookie(name string) (uint64, error) { return strconv.ParseUint(name, 10, 64) }

// readEntries reads what the pod maps hold.
func (d *Datapath) readEntries() (plan.Entries, error) {
	have := plan.Entries{Pods: map[uint64]Pod{}, Locals: map[netip.Addr]plan.Local{}, Probes: map[netip.AddrPort]bool{}}
	var (
		cookie uint64
		pod    bpf.ConnectAmbitPod
		addr   bpf.ConnectAmbitAddr
		local  bpf.ConnectAmbitLocal
		end    bpf.ConnectAmbitEnd
		one    uint32
	)
	pods, locals, probes := d.obj.maps[mapPods].Iterate(), d.obj.maps[mapLocals].Iterate(), d.obj.maps[mapProbes].Iterate()
	for pods.Next(&cookie, &pod) {
		have.Pods[cookie] = fromPod(cookie, pod)
	}
	for locals.Next(&addr, &local) {
		have.Locals[fromAddr(addr)] = plan.Local{Cookie: local.Netns, Flags: uint32(local.Flags)}
	}
	for probes.Next(&end, &one) {
		have.Probes[fromEnd(end)] = true
	}
	if err := errors.Join(pods.Err(), locals.Err(), probes.Err()); err != nil {
		return have, fmt.Errorf("read pinned entries: %w", err)
	}
	return have, nil
}

// applyLocked makes the maps hold want. After an error d.entries says what was reached.
func (d *Datapath) applyLocked(want plan.Entries) error {
	c := plan.Diff(d.entries, want)
	pods, locals, probes := d.obj.maps[mapPods], d.obj.maps[mapLocals], d.obj.maps[mapProbes]
	for _, k := range c.DelPods {
		if err := d.deletePod(k); err != nil {
			return err
		}
	}
	for _, k := range c.DelProbes {
		if err := remove(probes, toEnd(k)); err != nil {
			return fmt.Errorf("probe port %s: %w", k, err)
		}
		delete(d.entries.Probes, k)
	}
	for _, k := range c.DelLocals {
		if err := remove(locals, toAddr(k)); err != nil {
			return fmt.Errorf("address %s: %w", k, err)
		}
		delete(d.entries.Locals, k)
	}
	for _, k := range c.PutLocals {
		v := want.Locals[k]
		if err := locals.Put(toAddr(k), bpf.ConnectAmbitLocal{Netns: v.Cookie, Flags: bpf.ConnectAmbitPodFlag(v.Flags)}); err != nil {
			return fmt.Errorf("address %s: %w", k, limit(err))
		}
		d.entries.Locals[k] = v
	}
	for _, k := range c.PutProbes {
		if err := probes.Put(toEnd(k), uint32(1)); err != nil {
			return fmt.Errorf("probe port %s: %w", k, limit(err))
		}
		d.entries.Probes[k] = true
	}
	for _, k := range c.PutPods {
		if err := pods.Put(k, toPod(want.Pods[k])); err != nil {
			return fmt.Errorf("pod %d: %w", k, limit(err))
		}
		d.entries.Pods[k] = want.Pods[k]
	}
	return nil
}

func (d *Datapath) deletePod(cookie uint64) error {
	if err := remove(d.obj.maps[mapPods], cookie); err != nil {
		return fmt.Errorf("pod %d: %w", cookie, err)
	}
	delete(d.entries.Pods, cookie)
	return nil
}

// ErrLimit is what a full map answers.
var ErrLimit = errors.New("limit reached (MaxPods or MaxProbePorts of the agent)")

func limit(err error) error {
	if errors.Is(err, unix.E2BIG) {
		return ErrLimit
	}
	return err
}

func remove(m *ebpf.Map, key any) error {
	if err := m.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return err
	}
	return nil
}

// settle waits until no handshake of the pod's own is under way, at most for a time.
func (d *Datapath) settle(cookie uint64, most time.Duration) error {
	for end := time.Now().Add(most); ; time.Sleep(time.Millisecond) {
		busy, err := d.busy(cookie)
		if err != nil || !busy || time.Now().After(end) {
			return err
		}
	}
}

func (d *Datapath) busy(cookie uint64) (bool, error) {
	var key uint64
	var slot bpf.ConnectAmbitSlot
	slots := d.obj.maps[mapSlots].Iterate()
	for slots.Next(&key, &slot) {
		if slot.Netns == cookie && slot.Tuple.Src.Port != 0 {
			return true, nil
		}
	}
	if err := slots.Err(); err != nil && !errors.Is(err, ebpf.ErrIterationAborted) {
		return false, fmt.Errorf("handshakes: %w", err)
	}
	return false, nil
}
