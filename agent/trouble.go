package agent

import (
	"time"

	"github.com/ambit-mesh/ambit/agent/enroll"
	"github.com/ambit-mesh/ambit/agent/pods"
)

// troubleTime is how long what usually passes by itself (a namespace that appears late) must last before people are told.
const troubleTime = 5 * time.Second

// Reasons of events, beside those of package enroll.
const (
	reasonFailed   = "EnrolmentFailed"    // the agent could not do it, and tries again
	reasonZtunnel  = "ZtunnelRefused"     // the ztunnel does not take the pod
	reasonUnheeded = "AnnotationUnheeded" // the pod is in the mesh and asks for more than it gets
)

// eventSource is a source where people look for what is wrong with a pod.
type eventSource interface {
	Warn(key pods.Key, uid pods.UID, reason, message string)
}

// nodeEventSource is a source where people look for what is wrong with the node.
type nodeEventSource interface {
	WarnNode(reason, message string)
}

// trouble says what to tell people of a pod that belongs to the mesh and cannot be enrolled as it asks; reason "" is nothing. refusal is
// the ztunnel's.
func (m *member) trouble(refusal string, now time.Time) (reason, message string) {
	lasting := now.Sub(m.failing) >= troubleTime
	switch {
	case m.deleted || m.pod.Done():
		return "", ""
	case m.decision.Verdict == enroll.Outside && m.decision.Asked:
		return string(m.decision.Reason), "pod asks for the mesh and is left outside: " + m.decision.Detail
	case m.decision.Verdict == enroll.Refused && (m.decision.Reason != enroll.NamespaceUnknown || now.Sub(m.since) >= troubleTime):
		return string(m.decision.Reason), "pod belongs to the mesh and cannot be enrolled: " + m.decision.Detail
	case m.decision.Verdict == enroll.Enrolled && m.err != nil && !m.failing.IsZero() && lasting:
		return reasonFailed, "pod is not as the mesh needs it; trying again: " + m.err.Error()
	case m.decision.Verdict == enroll.Enrolled && m.err == nil && refusal != "":
		return reasonZtunnel, "the ztunnel does not take the pod: " + refusal
	case m.decision.Verdict == enroll.Enrolled && m.err == nil && m.decision.Unheeded != "":
		return reasonUnheeded, m.decision.Unheeded
	}
	return "", ""
}

// tell says what is new about a pod's trouble, where people look.
func (f *fleet) tell(m *member, now time.Time) {
	if f.events == nil || m.pod.UID == "" {
		return
	}
	reason, message := m.trouble(f.handoff.Status(m.pod.UID).Error, now)
	if told := reason + message; told != m.told {
		m.told = told
		if reason != "" {
			f.events.Warn(m.pod.Key, m.pod.UID, reason, message)
		}
	}
}
