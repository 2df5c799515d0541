package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/ambit-mesh/ambit/agent/api"
	"github.com/ambit-mesh/ambit/agent/datapath"
	"github.com/ambit-mesh/ambit/agent/enroll"
	"github.com/ambit-mesh/ambit/agent/handoff"
	"github.com/ambit-mesh/ambit/agent/netns"
	"github.com/ambit-mesh/ambit/agent/podnet"
	"github.com/ambit-mesh/ambit/agent/pods"
	"github.com/ambit-mesh/ambit/agent/sockets"
	"github.com/ambit-mesh/ambit/agent/source"
	"google.golang.org/protobuf/proto"
)

// kinds are the listeners of every pod. Those for DNS are there also where it is not captured, so that the setting may change.
var kinds = []api.ListenerKind{
	api.ListenerKind_OUTBOUND, api.ListenerKind_INBOUND, api.ListenerKind_HBONE, api.ListenerKind_DNS_TCP, api.ListenerKind_DNS_UDP,
}

// join captures a pod, or changes how. The order matters: listeners, hooks, then the word to the ztunnels; whatever arrives
// in between waits in a backlog.
func (f *fleet) join(m *member) error {
	if err := f.locate(m); err != nil {
		return err
	}
	if m.enrolled && time.Since(m.looked) < resync && f.unchanged(m) {
		return nil
	}
	facts, err := podnet.Look(m.ns)
	if err != nil {
		return fmt.Errorf("look into the pod: %w", err)
	}
	want, err := f.wanted(m, facts)
	if err != nil {
		return err
	}
	missing, err := f.settings.Apply(m.ns, m.cookie)
	if err != nil {
		return fmt.Errorf("settings of the pod: %w", err)
	}
	if len(missing) > 0 && !m.enrolled {
		f.log.Warn("kernel lacks settings that the mesh would make", "pod", m.pod.Key, "settings", missing)
	}
	if err := f.enrol(m, want, facts); err != nil {
		if _, adopted := f.adopted[m.cookie]; !m.enrolled && !adopted { // the kernel captures an adopted pod all the while
			err = errors.Join(err, f.settings.Restore(m.ns, m.cookie))
		}
		return err
	}
	m.looked = time.Now()
	return nil
}

// enrol sets listeners and hooks, and hands the pod off.
func (f *fleet) enrol(m *member, want datapath.Pod, facts podnet.Facts) error {
	uid := m.pod.UID
	fds, made, err := f.listeners(m)
	if err != nil {
		return err
	}
	for _, addr := range want.Addrs() {
		for i, kind := range kinds {
			if err == nil && kind != api.ListenerKind_DNS_UDP {
				err = f.kernel.setListener(addr, kind, fds[i])
			}
		}
	}
	var done datapath.Enrolment
	if err == nil {
		done, err = f.kernel.Enroll(m.ns, want)
	}
	if err != nil {
		if made && !m.enrolled {
			return errors.Join(err, fds.Close())
		}
		// A ztunnel has these listeners: keep ours too, or they could not be had again.
		f.handoff.Set(f.describe(m, want), kinds, fds)
		return err
	}
	wire := f.describe(m, want)
	if _, _, served := f.handoff.Served(uid); !served || !proto.Equal(wire, m.wire) || made {
		f.handoff.Set(wire, kinds, fds)
	} else {
		fds.Close()
	}
	if !m.enrolled {
		_, again := f.adopted[m.cookie]
		m.acked = again // its annotation stands: nothing has changed for its peers
		f.log.Info("pod enrolled", "pod", m.pod.Key, "uid", uid, "netns", m.cookie, "addresses", want.Addrs(), "adopted", again,
			"older_connections", done.Older, "older_connections_closed", done.Destroyed)
		if extra := len(facts.Addrs) - len(want.Addrs()); extra > 0 {
			f.log.Warn("pod has further addresses, which are not captured", "pod", m.pod.Key, "addresses", facts.Addrs)
		}
		f.metrics.older.Add(float64(done.Older))
	}
	delete(f.adopted, m.cookie)
	m.enrolled, m.state, m.wire, m.devices, m.older = true, want, wire, done.Devices, m.older+done.Older
	f.namespace.put(uid, m.ns)
	return nil
}

// listeners finds the pod's listeners or makes them: those that are served already, those that a ztunnel returned, new ones.
// made says that they are new. The caller owns the descriptors.
func (f *fleet) listeners(m *member) (fds api.Fds, made bool, err error) {
	uid := m.pod.UID
	if fds, ok, err := f.handoff.Listeners(uid); ok || err != nil {
		return fds, false, err
	}
	if r, ok := f.handoff.Take(uid); ok {
		if err := f.usable(r, m.cookie); err == nil {
			return r.Fds, false, nil
		} else {
			f.log.Warn("returned listeners are not used", "pod", m.pod.Key, "err", err)
			r.Fds.Close()
		}
	}
	if n := f.enrolledPods(); n >= f.most {
		return nil, false, fmt.Errorf("%d pods are enrolled, and this process may not open enough files for more: raise its RLIMIT_NOFILE", n)
	}
	fds, err = sockets.Listen(m.ns, f.tag, kinds)
	if errors.Is(err, sockets.ErrPortInUse) {
		return nil, false, fmt.Errorf("%w: an application of the pod listens there, another mesh's proxy, or a ztunnel that has not come back yet", err)
	}
	return fds, true, err
}

func (f *fleet) enrolledPods() (n int) {
	for _, m := range f.members {
		if m.enrolled {
			n++
		}
	}
	return n
}

// podBudget is how many pods' descriptors (its listeners, once more while they are passed on, and its namespace) fit into a
// limit of open files, beside what the agent itself needs: maps, programs, links, sockets in the making.
func podBudget(limit uint64) int {
	const own = 1024
	if limit <= own {
		return 0
	}
	return int(min(limit-own, 1<<30)) / (2*len(kinds) + 1)
}

func (f *fleet) usable(r *handoff.Returned, cookie uint64) error {
	if !slices.Equal(r.Kinds, kinds) {
		return fmt.Errorf("kinds %v, want %v", r.Kinds, kinds)
	}
	for i, kind := range r.Kinds {
		if err := sockets.Verify(r.Fds[i], kind, cookie); err != nil {
			return err
		}
		if err := f.kernel.tagged(r.Fds[i], kind); err != nil {
			return err
		}
	}
	return nil
}

// wanted is what the kernel must know of a pod: an address of each family, the published one first, then what CNI said, then
// what the namespace has.
func (f *fleet) wanted(m *member, facts podnet.Facts) (datapath.Pod, error) {
	if len(m.pod.IPs) > 0 && !facts.Holds(m.pod.IPs) {
		return datapath.Pod{}, fmt.Errorf("network namespace %d has addresses %v and none of the pod's, %v", m.cookie, facts.Addrs, m.pod.IPs)
	}
	// A family that is not published, or not yet, is captured all the same where the pod has it.
	from := slices.Clone(m.pod.IPs)
	for _, text := range m.ips {
		if a, err := netip.ParseAddr(text); err == nil && slices.Contains(facts.Addrs, a.Unmap()) {
			from = append(from, a.Unmap())
		}
	}
	from = append(from, facts.Addrs...)
	p := datapath.Pod{
		Cookie: m.cookie, DNS: m.decision.DNS, Strict: m.decision.Strict, BypassInbound: m.decision.BypassInbound,
		ProbePorts: m.pod.ProbePorts,
	}
	for _, a := range from {
		switch {
		case a.Is4() && !p.IPv4.IsValid():
			p.IPv4 = a
		case a.Is6() && !p.IPv6.IsValid():
			p.IPv6 = a
		}
	}
	if len(p.Addrs()) == 0 {
		return p, fmt.Errorf("the pod has no address yet")
	}
	return p, nil
}

// unchanged tells whether an enrolled pod is as the source wants it, as far as can be told without looking into it.
func (f *fleet) unchanged(m *member) bool {
	d, s := m.decision, m.state
	if d.DNS != s.DNS || d.Strict != s.Strict || d.BypassInbound != s.BypassInbound || !slices.Equal(m.pod.ProbePorts, s.ProbePorts) {
		return false
	}
	for _, a := range m.pod.IPs {
		if !slices.Contains(s.Addrs(), a) {
			return false
		}
	}
	_, _, served := f.handoff.Served(m.pod.UID)
	return served && proto.Equal(f.describe(m, s), m.wire)
}

func (f *fleet) describe(m *member, p datapath.Pod) *api.Pod {
	return &api.Pod{
		Uid: string(m.pod.UID), Name: m.pod.Key.Name, Namespace: m.pod.Key.Namespace, ServiceAccount: m.pod.ServiceAccount,
		Addresses: api.Bytes(p.Addrs()), NetnsCookie: m.cookie, Dns: p.DNS, BypassInbound: p.BypassInbound,
		Nameservers: api.Bytes(m.pod.Nameservers),
	}
}

// leave lets a pod go: its new connections are its own again first, then the ztunnels learn of it.
func (f *fleet) leave(m *member, reason api.DelPod_Reason) error {
	if m.ns == nil && !m.enrolled {
		if reason == api.DelPod_LEFT {
			f.leaveAdopted(m)
		}
		m.given = ""
		return nil
	}
	var errs []error
	if m.enrolled {
		errs = append(errs, f.kernel.Withdraw(m.cookie, m.ns))
		f.namespace.remove(m.pod.UID)
		f.handoff.Remove(m.pod.UID, reason)
		f.limiter.Forget(m.pod.UID)
		f.log.Info("pod left the mesh", "pod", m.pod.Key, "uid", m.pod.UID, "reason", reason)
	}
	errs = append(errs, f.settings.Restore(m.ns, m.cookie))
	if err := errors.Join(errs...); err != nil {
		if reason != api.DelPod_GONE {
			return err
		}
		f.log.Warn("pod is gone, and some of it could not be cleared away", "pod", m.pod.Key, "err", err)
	}
	m.ns.Close()
	*m = member{pod: m.pod, decision: m.decision, deleted: m.deleted, noted: m.noted, since: m.since, told: m.told}
	return nil
}

// leaveAdopted ends a pod that an earlier agent enrolled and that has left the mesh since.
func (f *fleet) leaveAdopted(m *member) {
	for cookie, p := range f.adopted {
		for _, a := range p.Addrs() {
			if !slices.Contains(m.pod.IPs, a) {
				continue
			}
			if ns := f.finder.byCookie(cookie); ns != nil {
				m.ns, m.cookie, m.enrolled = ns, cookie, true
				delete(f.adopted, cookie)
				if err := f.leave(m, api.DelPod_LEFT); err != nil {
					f.log.Error("pod could not leave the mesh; trying again", "pod", m.pod.Key, "err", err)
				}
				return
			}
		}
	}
}

// annotate tells the world whether the pod is captured. Once it is, it stays so while it is enrolled: a ztunnel that restarts
// finds the connections waiting.
func (f *fleet) annotate(ctx context.Context, m *member) error {
	m.acked = m.enrolled && (m.acked || f.handoff.Status(m.pod.UID).Acked)
	value := ""
	switch {
	case m.acked:
		value = source.Enabled
	case m.enrolled || m.decision.Verdict == enroll.Enrolled && !m.deleted && len(m.pod.IPs) > 0:
		value = source.Pending
	}
	if value == m.noted || m.pod.UID == "" {
		return nil
	}
	if value == source.Pending && m.noted == "?" && !m.enrolled && f.claimable(m) {
		return nil // captured by an earlier agent: were it called pending, peers would come in plain text until it is claimed
	}
	if value == "" && m.noted == "?" && len(f.node().OtherMeshes) > 0 {
		return nil // it is the other mesh's word that its pods are captured
	}
	if err := f.source.Annotate(ctx, m.pod.Key, m.pod.UID, value); err != nil {
		return err
	}
	m.noted = value
	return nil
}

// makeSockets answers a ztunnel, from any goroutine.
func (f *fleet) makeSockets(uid pods.UID, kind api.SocketKind, n int) (api.Fds, error) {
	granted := f.limiter.Grant(uid, n, time.Now())
	if granted == 0 {
		return nil, errors.New("the limit of sockets a second is reached; ask again")
	}
	var fds api.Fds
	err := f.namespace.with(uid, func(ns *netns.Handle) (err error) {
		fds, err = sockets.Outgoing(ns, f.tag, kind, granted)
		return err
	})
	return fds, err
}
