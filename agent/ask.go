package agent

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/ambit-mesh/ambit/agent/api"
	"github.com/ambit-mesh/ambit/agent/cni"
	"github.com/ambit-mesh/ambit/agent/enroll"
	"github.com/ambit-mesh/ambit/agent/netns"
	"github.com/ambit-mesh/ambit/agent/pods"
)

// annotationConfigHash carries the uid by which a runtime knows a static pod; the API server's has another.
const annotationConfigHash = "kubernetes.io/config.hash"

// question is a request of the CNI plugin that waits for the fleet.
type question struct {
	cni.Request
	ns     *netns.Handle // the fleet's to close or keep
	done   <-chan struct{}
	result chan cni.Response // has room for the one answer
	last   atomic.Pointer[cni.Response]
}

func (q *question) answer(r cni.Response) {
	select {
	case q.result <- r:
	default:
	}
	q.drop()
}

func (q *question) drop() {
	if q.ns != nil {
		q.ns.Close()
		q.ns = nil
	}
}

// ask implements cni.Handler: it waits for the fleet, and when the time is over says what was missing.
func (f *fleet) ask(ctx context.Context, r cni.Request, ns *netns.Handle) cni.Response {
	q := &question{Request: r, ns: ns, done: ctx.Done(), result: make(chan cni.Response, 1)}
	select {
	case f.questions <- q:
	case <-ctx.Done():
		q.drop()
		return cni.Response{Reason: "AgentBusy", Detail: "the agent had no time for this pod"}
	}
	select {
	case answer := <-q.result:
		return answer
	case <-ctx.Done():
	}
	select { // both may have happened
	case answer := <-q.result:
		return answer
	default:
	}
	if last := q.last.Load(); last != nil {
		return *last
	}
	return cni.Response{Reason: "PodUnknown", Detail: "the agent has not heard of this pod (is the API server reachable from the agent?)"}
}

// accept deals with what must happen before the pass.
func (f *fleet) accept(q *question) {
	set := f.source.Set()
	if q.Command != cni.Del || set == nil {
		return
	}
	for _, m := range f.members {
		named := string(m.pod.UID) == q.UID || q.UID == "" && m.pod.Key == (pods.Key{Namespace: q.Namespace, Name: q.Pod})
		sandbox := m.given == q.Container || m.given == ""
		if q.ns != nil && m.ns != nil {
			sandbox = q.ns.ID() == m.ns.ID()
		}
		if named && sandbox {
			m.deleted = true
		}
	}
}

// bring gives members the namespaces that CNI ADD requests brought.
func (f *fleet) bring(set *pods.Set) {
	for _, q := range f.waiting {
		if q.Command != cni.Add || q.ns == nil {
			continue
		}
		m := f.asked(q, set)
		if m == nil {
			continue
		}
		cookie, err := q.ns.Cookie()
		if err != nil || !f.finder.foreign(q.ns) {
			q.answer(cni.Response{Reason: "BadNamespace", Detail: "the network namespace is not a pod's"})
			continue
		}
		if m.ns != nil && m.ns.ID() != q.ns.ID() {
			// A new sandbox of the same pod: nothing of the old one is worth keeping.
			if err := f.leave(m, api.DelPod_GONE); err != nil {
				f.log.Warn("old sandbox of a pod could not be cleared away", "pod", m.pod.Key, "err", err)
			}
		}
		if m.ns == nil {
			m.ns, m.cookie, q.ns = q.ns, cookie, nil
		}
		m.given, m.ips, m.deleted, m.looked = q.Container, q.IPs, false, time.Time{}
		q.drop()
	}
}

// asked finds the member that a request is about.
func (f *fleet) asked(q *question, set *pods.Set) *member {
	if q.UID != "" {
		if m := f.members[pods.UID(q.UID)]; m != nil {
			return m
		}
	}
	p, ok := set.ByKey(pods.Key{Namespace: q.Namespace, Name: q.Pod})
	if !ok || q.UID != "" && p.Annotations[annotationConfigHash] != q.UID {
		return nil
	}
	return f.members[p.UID]
}

// reply answers the requests that can be answered now; the others wait.
func (f *fleet) reply(set *pods.Set) {
	var waiting []*question
	for _, q := range f.waiting {
		select {
		case <-q.done:
			q.drop()
			continue
		default:
		}
		answer, final := f.judge(q, f.asked(q, set))
		if final {
			q.answer(answer)
			continue
		}
		q.last.Store(&answer)
		waiting = append(waiting, q)
	}
	f.waiting = waiting
}

// judge says what a request is answered, and whether waiting longer could change it.
func (f *fleet) judge(q *question, m *member) (answer cni.Response, final bool) {
	if q.Command == cni.Del {
		return cni.Response{OK: true, Reason: "Deleted", Detail: "the pod's enrolment is over"}, true
	}
	check := q.Command == cni.Check
	if m == nil {
		return cni.Response{Reason: "PodUnknown", Detail: "the agent has not heard of this pod yet"}, check
	}
	d := m.decision
	answer = cni.Response{Reason: string(d.Reason), Detail: d.Detail, Enrolled: m.enrolled}
	switch {
	case d.Verdict == enroll.Outside:
		answer.OK = true
		return answer, true
	case d.Verdict == enroll.Refused:
		return answer, check || d.Reason != enroll.NamespaceUnknown
	case m.enrolled && m.err == nil:
		answer.OK = true
		return answer, true
	case m.err != nil:
		answer.Reason, answer.Detail = "NotEnrolled", m.err.Error()
	default:
		answer.Reason, answer.Detail = "NotEnrolled", "the pod is not enrolled yet"
	}
	return answer, check
}
