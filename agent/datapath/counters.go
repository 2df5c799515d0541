package datapath

import (
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/ambit-mesh/ambit/bpf"
)

// Counters reads how often each outcome has happened since the datapath was first loaded; every outcome is in the map.
// SlotSwept counts from the start of this process.
func (d *Datapath) Counters() (map[Outcome]uint64, error) {
	counts := make(map[Outcome]uint64, outcomes)
	for o := Outcome(1); int(o) < outcomes; o++ {
		var cpus []uint64
		if err := d.obj.maps[mapCounters].Lookup(uint32(o), &cpus); err != nil {
			return nil, fmt.Errorf("counter %s: %w", o, err)
		}
		for _, n := range cpus {
			counts[o] += n
		}
	}
	counts[SlotSwept] = d.swept.Load()
	return counts, nil
}

// Handshakes is how many connections were between connect and accept at the last sweep; the limit is MaxHandshakes.
func (d *Datapath) Handshakes() (open, most int) {
	return int(d.handshakes.Load()), int(d.obj.maps[mapSlots].MaxEntries())
}

// A handshake ends when it is accepted, fails, or its socket is closed. These ages are for what none of that reported: a SYN is
// retried for some 127 s, and a probe's slot lives as long as the probe.
const (
	handshakeAge = 5 * time.Minute
	probeAge     = 30 * time.Minute
)

// Sweep frees the slots of handshakes that are too old to be real and returns how many. Run calls it.
func (d *Datapath) Sweep() (int, error) { return d.sweep(handshakeAge, probeAge) }

func (d *Datapath) sweep(handshake, probe time.Duration) (int, error) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return 0, fmt.Errorf("clock: %w", err)
	}
	var cookie uint64
	var slot bpf.ConnectAmbitSlot
	old, open := map[uint64]bpf.ConnectAmbitSlot{}, 0
	slots := d.obj.maps[mapSlots].Iterate()
	for slots.Next(&cookie, &slot) {
		open++
		age, most := time.Duration(now.Nano()-int64(slot.SinceNs)), handshake
		if slot.Kind == bpf.ConnectAmbitKindAMBIT_KIND_PROBE {
			most = probe
		}
		if age > most {
			old[cookie] = slot
		}
	}
	d.handshakes.Store(int64(open - len(old)))
	// A listing that concurrent changes cut short is finished by the next one.
	if err := slots.Err(); err != nil && !errors.Is(err, ebpf.ErrIterationAborted) {
		return 0, fmt.Errorf("handshakes: %w", err)
	}
	for cookie, slot := range old {
		if err := d.freeSlot(cookie, slot); err != nil {
			return 0, err
		}
		d.swept.Add(1)
	}
	return len(old), nil
}

// freeSlot does what slot_free of bpf/lib/slot.h does.
func (d *Datapath) freeSlot(cookie uint64, slot bpf.ConnectAmbitSlot) error {
	key := bpf.ConnectAmbitFlowKey{Netns: slot.Netns, Tuple: slot.Tuple}
	flows, steers := d.obj.maps[mapFlows], d.obj.maps[mapSteers]
	var flow bpf.ConnectAmbitFlow
	var steer bpf.ConnectAmbitSteer
	var errs []error
	if flows.Lookup(key, &flow) == nil && flow.Slot == cookie {
		errs = append(errs, remove(flows, key))
	}
	if steers.Lookup(slot.Tuple, &steer) == nil && steer.Slot == cookie {
		errs = append(errs, remove(steers, slot.Tuple))
	}
	errs = append(errs, remove(d.obj.maps[mapSlots], cookie))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("free handshake: %w", err)
	}
	return nil
}
