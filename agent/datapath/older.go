package datapath

import (
	"fmt"
	"io"

	"github.com/cilium/ebpf/link"

	"github.com/ambit-mesh/ambit/agent/netns"
	"github.com/ambit-mesh/ambit/bpf"
)

// olderLocked tags the pod's connections that are older than its enrolment, so that the backstop lets them pass; strict capture
// closes them instead where the kernel can, and otherwise leaves them to be dropped.
func (d *Datapath) olderLocked(ns *netns.Handle, strict bool) (tagged, destroyed uint64, err error) {
	name := progOlder
	if strict {
		name = progDestroy
	}
	prog, ok := d.obj.progs[name]
	if !ok {
		return 0, 0, nil
	}
	iter, err := link.AttachIter(link.IterOptions{Program: prog})
	if err != nil {
		return 0, 0, fmt.Errorf("older connections: %w", err)
	}
	defer iter.Close()
	before, err := d.Counters()
	if err != nil {
		return 0, 0, err
	}
	// The iterator belongs to the namespace in which it is opened.
	err = ns.Do(func() error {
		run, err := iter.Open()
		if err != nil {
			return err
		}
		defer run.Close()
		_, err = io.Copy(io.Discard, run)
		return err
	})
	if err != nil {
		return 0, 0, fmt.Errorf("older connections: %w", err)
	}
	after, err := d.Counters()
	if err != nil {
		return 0, 0, err
	}
	// Nobody else counts these, and the lock is held.
	since := func(o bpf.ConnectAmbitOutcome) uint64 { return after[Outcome(o)] - before[Outcome(o)] }
	return since(bpf.ConnectAmbitOutcomeAMBIT_OUT_OLDER_TAGGED), since(bpf.ConnectAmbitOutcomeAMBIT_OUT_OLDER_DESTROYED), nil
}
