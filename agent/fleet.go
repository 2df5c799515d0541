package agent

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/ambit-mesh/ambit/agent/api"
	"github.com/ambit-mesh/ambit/agent/cni"
	"github.com/ambit-mesh/ambit/agent/datapath"
	"github.com/ambit-mesh/ambit/agent/enroll"
	"github.com/ambit-mesh/ambit/agent/handoff"
	"github.com/ambit-mesh/ambit/agent/netns"
	"github.com/ambit-mesh/ambit/agent/podnet"
	"github.com/ambit-mesh/ambit/agent/pods"
	"github.com/ambit-mesh/ambit/agent/sockets"
)

// Timing of the reconcile loop.
const (
	firstRetry = 200 * time.Millisecond // after a pass that left something undone
	lastRetry  = 5 * time.Second
	resync     = time.Minute // everything is compared again, lest something outside changed it
)

// podSource is where pods come from; agent/source has two.
type podSource interface {
	Run(ctx context.Context) error
	Set() *pods.Set // nil before the first is complete
	Changed() <-chan struct{}
	Annotate(ctx context.Context, key pods.Key, uid pods.UID, value string) error
}

// kernel is what the fleet asks of the datapath; *datapath.Datapath is it, and tests have a fake.
type kernel interface {
	Enroll(ns *netns.Handle, pod datapath.Pod) (datapath.Enrolment, error)
	Withdraw(cookie uint64, ns *netns.Handle) error
	Enrolled() []datapath.Pod
	listenerKernel
}

// fleet makes the node's pods what they should be: it compares what the source wants with what is, again and again. One
// goroutine, run's, owns all of its state; others ask through channels.
//
//	source ----+
//	handoff ---+--> pass: decide, locate, enrol or let go, annotate --> datapath, handoff, settings, source
//	CNI -------+
type fleet struct {
	node     func() enroll.Node // may change: foreign hooks come and go
	source   podSource
	events   eventSource // nil: nobody to tell
	kernel   kernel
	handoff  *handoff.Server
	settings *podnet.Settings
	limiter  *sockets.Limiter
	finder   *finder
	tag      sockets.Tagger
	metrics  *metrics
	log      *slog.Logger

	alive      atomic.Int64           // when the loop last gave a sign of life, in nanoseconds since 1970; 0: not yet
	complete   chan struct{}          // closed by the first complete pass
	unchained  atomic.Pointer[string] // why the CNI plugin is not in its place; nil: it is, or need not be
	rewritten  atomic.Pointer[string] // who fights for the CNI configuration; nil or "": nobody
	most       int                    // pods, by the descriptors that this process may have
	questions  chan *question
	neighbours <-chan struct{} // tells that another mesh came or went; nil: nobody looks
	views      chan chan []PodStatus
	namespace  *namespaces // of enrolled pods, for the makers of sockets

	members map[pods.UID]*member
	adopted map[uint64]datapath.Pod // enrolled by an earlier agent, not yet claimed by a member
	waiting []*question
}

// member is a pod that the agent deals with.
type member struct {
	pod      pods.Pod
	decision enroll.Decision
	ns       *netns.Handle
	cookie   uint64
	given    string // container id of the CNI ADD that brought ns
	ips      []string
	deleted  bool // CNI DEL came: the sandbox is over, whatever the source still says
	enrolled bool
	state    datapath.Pod // as enrolled
	wire     *api.Pod     // as handed off
	looked   time.Time    // when everything was last compared
	acked    bool         // a ztunnel has had it
	err      error
	since    time.Time
	devices  []string
	older    uint64
	noted    string    // the annotation as last written; "?" before
	failing  time.Time // since when err is not nil and not errNotMade; zero: it is not
	told     string    // the event that was last sent
}

func newMember() *member { return &member{since: time.Now(), noted: "?"} }

// run reconciles until ctx ends. What is enrolled stays enrolled.
func (f *fleet) run(ctx context.Context) error {
	for _, p := range f.kernel.Enrolled() {
		f.adopted[p.Cookie] = p
	}
	defer f.letGo()
	retry := time.NewTimer(0)
	defer retry.Stop()
	full := time.NewTicker(resync)
	defer full.Stop()
	backoff := firstRetry
	for {
		f.beat()
		select {
		case <-ctx.Done():
			return nil
		case q := <-f.questions:
			f.waiting = append(f.waiting, q)
			f.accept(q)
		case c := <-f.views:
			c <- f.view()
			continue
		case <-f.source.Changed():
		case <-f.handoff.Changed():
		case <-f.neighbours:
		case <-full.C:
			for _, m := range f.members {
				m.looked = time.Time{}
			}
		case <-retry.C:
		}
		undone := f.pass(ctx)
		if undone == 0 {
			backoff = firstRetry
			continue
		}
		retry.Reset(backoff)
		backoff = min(2*backoff, lastRetry)
	}
}

// pass brings everything as far as it goes now and answers how many pods are not as they should be.
func (f *fleet) pass(ctx context.Context) (undone int) {
	set := f.source.Set()
	if set == nil {
		return 0 // its first change starts a pass
	}
	start := time.Now()
	number := f.handoff.Begin()
	f.finder.forget()
	f.update(set)
	f.bring(set)
	for _, m := range f.members {
		f.beat()
		if err := f.settle(ctx, m, set); err != nil {
			if errors.Is(err, errNotMade) { // the source or a CNI request will tell when to look again
				m.failing = time.Time{}
			} else {
				undone++
				f.complain(m, err)
				if m.failing.IsZero() {
					m.failing = start
				}
			}
			m.err = err
		} else {
			m.err, m.failing = nil, time.Time{}
		}
		f.tell(m, start)
	}
	for uid, m := range f.members {
		if _, there := set.ByUID(uid); !there && m.given == "" && m.err == nil {
			delete(f.members, uid)
		}
	}
	f.dropStrays(set)
	f.handoff.End(number)
	select {
	case <-f.complete:
	default:
		close(f.complete)
	}
	f.reply(set)
	undone += len(f.waiting)
	for _, m := range f.members {
		if err := f.note(ctx, m); err != nil {
			undone++
			f.log.Warn("pod's annotation could not be written; trying again", "pod", m.pod.Key, "err", err)
		}
	}
	f.metrics.observe(f.view(), time.Since(start))
	return undone
}

// complain logs what is new about a pod's trouble.
func (f *fleet) complain(m *member, err error) {
	switch {
	case m.err != nil && m.err.Error() == err.Error():
	case errors.Is(err, errNotFound):
		f.log.Warn("pod is not found yet; trying again", "pod", m.pod.Key, "uid", m.pod.UID, "err", err)
	default:
		f.log.Error("pod is not as it should be; trying again", "pod", m.pod.Key, "uid", m.pod.UID, "err", err)
	}
}

// update takes over what the source says.
func (f *fleet) update(set *pods.Set) {
	for _, p := range set.Pods() {
		m := f.members[p.UID]
		if m == nil {
			m = newMember()
			f.members[p.UID] = m
		}
		m.pod = p
	}
}

// settle makes one pod what it should be.
func (f *fleet) settle(ctx context.Context, m *member, set *pods.Set) error {
	if _, there := set.ByUID(m.pod.UID); !there || m.deleted {
		return f.leave(m, api.DelPod_GONE)
	}
	namespace, _ := set.Namespace(m.pod.Key.Namespace)
	m.decision = enroll.Decide(&m.pod, namespace, f.node())
	if m.decision.Reason == enroll.OtherMesh && (m.enrolled || f.claimable(m)) {
		m.decision.Verdict = enroll.Refused // a mesh that came later gets nobody who is protected by this one
	}
	switch m.decision.Verdict {
	case enroll.Enrolled:
		return f.join(m)
	case enroll.Outside:
		if m.pod.Done() {
			return f.leave(m, api.DelPod_GONE)
		}
		return f.leave(m, api.DelPod_LEFT)
	default:
		// Whoever is captured stays captured: a doubt is no reason to let traffic out.
		return nil
	}
}

// dropStrays ends what nobody claims: pods that an earlier agent enrolled, and listeners that ztunnels returned.
func (f *fleet) dropStrays(set *pods.Set) {
	for cookie, p := range f.adopted {
		if f.claimed(p) {
			continue
		}
		ns := f.finder.byCookie(cookie)
		err := f.kernel.Withdraw(cookie, ns)
		if ns != nil {
			if restoreErr := f.settings.Restore(ns, cookie); restoreErr != nil {
				f.log.Warn("settings of a network namespace could not be given back", "netns", cookie, "err", restoreErr)
			}
			ns.Close()
		} else if forgetErr := f.settings.Forget(cookie); forgetErr != nil {
			f.log.Warn("settings of a network namespace could not be forgotten", "netns", cookie, "err", forgetErr)
		}
		f.log.Info("pod of an earlier agent let go: it is not on this node or not in the mesh any more", "netns", cookie, "err", err)
		if err == nil {
			delete(f.adopted, cookie)
		}
	}
	for _, uid := range f.handoff.ReturnedPods() {
		m := f.members[uid]
		switch {
		case m == nil || m.deleted:
			f.handoff.Remove(uid, api.DelPod_GONE)
		case m.decision.Verdict == enroll.Outside:
			f.handoff.Remove(uid, api.DelPod_LEFT)
		}
	}
}

// claimed tells whether a pod of an earlier agent may still be found to be one of the source's.
func (f *fleet) claimed(p datapath.Pod) bool {
	for _, m := range f.members {
		if m.cookie == p.Cookie && m.enrolled {
			return true
		}
		if m.decision.Verdict == enroll.Outside || m.deleted || m.cookie != 0 && m.cookie != p.Cookie {
			continue
		}
		if len(m.pod.IPs) == 0 && m.ns == nil {
			return true // it may be this one, whose address is not published yet: let nothing out
		}
		for _, a := range p.Addrs() {
			if slices.Contains(m.pod.IPs, a) {
				return true
			}
		}
	}
	return false
}

// claimable tells whether an earlier agent enrolled the pod.
func (f *fleet) claimable(m *member) bool {
	for _, p := range f.adopted {
		if slices.ContainsFunc(p.Addrs(), func(a netip.Addr) bool { return slices.Contains(m.pod.IPs, a) }) {
			return true
		}
	}
	return false
}

// letGo closes what the fleet holds, and changes nothing in the kernel.
func (f *fleet) letGo() {
	for _, m := range f.members {
		if m.ns != nil {
			f.namespace.remove(m.pod.UID)
			m.ns.Close()
		}
	}
	for _, q := range f.waiting {
		q.answer(cni.Response{Reason: "AgentStopping", Detail: "the agent is being restarted"})
	}
}
