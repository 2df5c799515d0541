package datapath

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/cilium/ebpf/link"

	"github.com/ambit-mesh/ambit/agent/datapath/plan"
	"github.com/ambit-mesh/ambit/agent/netns"
)

// Pod is an enrolled pod. Cookie may be left 0 for Enroll, which reads it from the namespace.
type Pod = plan.Pod

// Enrolment is what Enroll found in the pod.
type Enrolment struct {
	Cookie    uint64   // of the network namespace: the pod's key from now on
	Devices   []string // that the backstop watches
	Older     uint64   // connections older than the enrolment that were kept: they bypass the mesh until they end
	Destroyed uint64   // the same, closed: strict capture on a kernel that can
}

// Enroll begins or changes the capture of a pod; it may be repeated. When it returns, every new connection of the pod, in and
// out, meets the mesh's listeners, and fails while there are none: set them before (SetListener). ns is used during the call.
// A pod of an address that another enrolled pod has is refused (plan.ErrTaken). After an error nothing of a pod that was not
// enrolled before remains.
func (d *Datapath) Enroll(ns *netns.Handle, pod Pod) (Enrolment, error) {
	cookie, err := ns.Cookie()
	if err != nil {
		return Enrolment{}, fmt.Errorf("enroll pod: %w", err)
	}
	if pod.Cookie != 0 && pod.Cookie != cookie {
		return Enrolment{}, fmt.Errorf("enroll pod: namespace has cookie %d, not %d", cookie, pod.Cookie)
	}
	pod.Cookie = cookie

	d.mu.Lock()
	defer d.mu.Unlock()
	before, again := d.entries.Pods[cookie]
	pods := slices.DeleteFunc(d.entries.List(), func(p Pod) bool { return p.Cookie == cookie })
	want, err := plan.Want(append(pods, pod))
	if err != nil {
		return Enrolment{}, fmt.Errorf("enroll pod: %w", err)
	}
	done, err := d.enrollLocked(ns, pod, want, !again || (pod.Strict && !before.Strict))
	if err != nil {
		err = fmt.Errorf("enroll pod: %w", err)
		if !again {
			err = errors.Join(err, d.withdrawLocked(cookie, ns))
		}
		return Enrolment{}, err
	}
	return done, nil
}

func (d *Datapath) enrollLocked(ns *netns.Handle, pod Pod, want plan.Entries, older bool) (done Enrolment, err error) {
	done.Cookie = pod.Cookie
	dir := d.podDir(pod.Cookie)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return done, fmt.Errorf("pin directory: %w", err)
	}
	// Inbound first: a pod whose entry exists has its lookup link.
	lookup := d.obj.progs[progLookup]
	err = ensureLink(filepath.Join(dir, "lookup"), lookup, func() (link.Link, error) {
		return link.AttachNetNs(ns.Fd(), lookup)
	})
	if err != nil {
		return done, fmt.Errorf("attach %s: %w", progLookup, err)
	}
	if err := d.applyLocked(want); err != nil {
		return done, err
	}
	// What is older is known only once nothing new can be like it, and before the backstop judges it.
	if older {
		if done.Older, done.Destroyed, err = d.olderLocked(ns, pod.Strict); err != nil {
			return done, err
		}
	}
	done.Devices, err = d.attachBackstop(ns, pod)
	return done, err
}

// Withdraw ends the capture of a pod: its new connections go direct, its live ones go on where they are. ns may be nil when the
// namespace is gone or not at hand; before Linux 6.6 the backstop's filter then stays until the namespace goes, and only counts.
func (d *Datapath) Withdraw(cookie uint64, ns *netns.Handle) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.withdrawLocked(cookie, ns); err != nil {
		return fmt.Errorf("withdraw pod: %w", err)
	}
	return nil
}

// settleTime bounds the wait for handshakes between an application and its listener, which take microseconds.
const settleTime = 200 * time.Millisecond

func (d *Datapath) withdrawLocked(cookie uint64, ns *netns.Handle) error {
	var errs []error
	leaving, known := d.entries.Pods[cookie]
	if known {
		// Connects go direct from here on; what is under way still finds its listener.
		if err := d.deletePod(cookie); err != nil {
			errs = append(errs, err)
		}
		errs = append(errs, d.settle(cookie, settleTime))
	}
	errs = append(errs, d.detachBackstop(cookie, ns), unpin(filepath.Join(d.podDir(cookie), "lookup")))
	if known {
		rest := slices.DeleteFunc(d.entries.List(), func(p Pod) bool { return p.Cookie == cookie })
		want, err := plan.Want(rest)
		if err == nil {
			err = d.applyLocked(want)
		}
		errs = append(errs, err, d.dropListeners(leaving.Addrs()))
	}
	if err := os.Remove(d.podDir(cookie)); err != nil && !errors.Is(err, os.ErrNotExist) {
		errs = append(errs, fmt.Errorf("pin directory: %w", err))
	}
	return errors.Join(errs...)
}

// unpin detaches the link pinned at path, and forgets it.
func unpin(path string) error {
	l, err := link.LoadPinnedLink(path, nil)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("pinned link: %w", err)
	}
	defer l.Close()
	// The last reference to a link is its pin, and with it goes the attachment.
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("unpin link: %w", err)
	}
	return nil
}

// Enrolled lists the enrolled pods, those too that an earlier process enrolled, by cookie.
func (d *Datapath) Enrolled() []Pod {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.entries.List()
}

// adoptPods gives the pods of an earlier process this build's programs, and forgets those whose namespace is gone.
func (d *Datapath) adoptPods() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	dirs, err := os.ReadDir(d.podsDir())
	if err != nil {
		return fmt.Errorf("pinned pods: %w", err)
	}
	pinned := map[uint64]bool{}
	for _, dir := range dirs {
		cookie, err := parseCookie(dir.Name())
		if err != nil {
			return fmt.Errorf("pinned pods: %w", err)
		}
		pinned[cookie] = true
		pod, enrolled := d.entries.Pods[cookie]
		if enrolled {
			err = d.adoptPod(pod)
			if err == nil {
				continue
			}
			if !isGone(err) {
				return fmt.Errorf("adopt pod %d: %w", cookie, err)
			}
			d.cfg.Log.Info("pod went while no agent ran", "netns", cookie)
		}
		if err := d.withdrawLocked(cookie, nil); err != nil {
			return fmt.Errorf("forget pod %d: %w", cookie, err)
		}
	}
	for _, cookie := range slices.Sorted(maps.Keys(d.entries.Pods)) {
		if !pinned[cookie] {
			if err := d.withdrawLocked(cookie, nil); err != nil {
				return fmt.Errorf("forget pod %d: %w", cookie, err)
			}
		}
	}
	return nil
}

func (d *Datapath) adoptPod(pod Pod) error {
	lookup, err := link.LoadPinnedLink(filepath.Join(d.podDir(pod.Cookie), "lookup"), nil)
	if err != nil {
		return fmt.Errorf("pinned link: %w", err)
	}
	defer lookup.Close()
	if err := lookup.Update(d.obj.progs[progLookup]); err != nil {
		return fmt.Errorf("swap %s: %w", progLookup, err)
	}
	return d.adoptBackstop(pod)
}
