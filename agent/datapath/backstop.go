package datapath

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/ambit-mesh/ambit/agent/netns"
)

const egressPin = "egress-"

func (d *Datapath) backstop(strict bool) *ebpf.Program {
	if strict {
		return d.obj.progs[progStrict]
	}
	return d.obj.progs[progEgress]
}

// attachBackstop watches every device of the pod but loopback, and stops watching those that are gone.
func (d *Datapath) attachBackstop(ns *netns.Handle, pod Pod) (names []string, err error) {
	prog, keep := d.backstop(pod.Strict), map[string]bool{}
	err = ns.Do(func() error {
		devices, err := net.Interfaces()
		if err != nil {
			return fmt.Errorf("devices: %w", err)
		}
		for _, dev := range devices {
			if dev.Flags&net.FlagLoopback != 0 {
				continue
			}
			pin := egressPin + strconv.Itoa(dev.Index)
			if d.features.TCX {
				err = ensureLink(filepath.Join(d.podDir(pod.Cookie), pin), prog, func() (link.Link, error) {
					return link.AttachTCX(link.TCXOptions{Interface: dev.Index, Program: prog, Attach: ebpf.AttachTCXEgress})
				})
			} else {
				err = attachFilter(dev.Index, prog)
			}
			if err != nil {
				return fmt.Errorf("backstop on %s: %w", dev.Name, err)
			}
			keep[pin] = true
			names = append(names, dev.Name)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return names, d.unpinBackstop(pod.Cookie, keep)
}

func (d *Datapath) unpinBackstop(cookie uint64, keep map[string]bool) error {
	pins, err := os.ReadDir(d.podDir(cookie))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("pinned backstop: %w", err)
	}
	var errs []error
	for _, pin := range pins {
		if strings.HasPrefix(pin.Name(), egressPin) && !keep[pin.Name()] {
			errs = append(errs, unpin(filepath.Join(d.podDir(cookie), pin.Name())))
		}
	}
	return errors.Join(errs...)
}

func (d *Datapath) detachBackstop(cookie uint64, ns *netns.Handle) error {
	err := d.unpinBackstop(cookie, nil)
	if d.features.TCX || ns == nil {
		return err
	}
	return errors.Join(err, ns.Do(func() error {
		devices, err := net.Interfaces()
		if err != nil {
			return fmt.Errorf("devices: %w", err)
		}
		var errs []error
		for _, dev := range devices {
			if dev.Flags&net.FlagLoopback == 0 {
				errs = append(errs, detachFilter(dev.Index))
			}
		}
		return errors.Join(errs...)
	}))
}

// adoptBackstop gives the pinned links of an earlier process this build's program. A filter of clsact has no pin: it keeps the
// earlier program, on the same maps, until the pod is enrolled again.
func (d *Datapath) adoptBackstop(pod Pod) error {
	pins, err := os.ReadDir(d.podDir(pod.Cookie))
	if err != nil {
		return fmt.Errorf("pinned backstop: %w", err)
	}
	for _, pin := range pins {
		if !strings.HasPrefix(pin.Name(), egressPin) {
			continue
		}
		path := filepath.Join(d.podDir(pod.Cookie), pin.Name())
		l, err := link.LoadPinnedLink(path, nil)
		if err != nil {
			return fmt.Errorf("pinned backstop: %w", err)
		}
		err = l.Update(d.backstop(pod.Strict))
		l.Close()
		if isGone(err) { // the device, not the pod
			err = unpin(path)
		}
		if err != nil {
			return fmt.Errorf("swap backstop: %w", err)
		}
	}
	return nil
}
