package agent

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/ambit-mesh/ambit/agent/enroll"
	"github.com/ambit-mesh/ambit/agent/handoff"
)

// Status is what the agent tells about itself, as JSON at /status.
type Status struct {
	Node     string   `json:"node"`
	Ready    bool     `json:"ready"`
	Missing  []string `json:"missing,omitempty"`  // why it is not ready
	Degraded []string `json:"degraded,omitempty"` // what this kernel cannot do, and what follows
	Foreign  []string `json:"foreign,omitempty"`  // programs of others on our hooks
	// Other meshes that take pods of the same labels.
	OtherMeshes []string          `json:"otherMeshes,omitempty"`
	Kubelet     string            `json:"kubelet"`
	Taint       string            `json:"taint"` // what has become of the node's
	Selectors   string            `json:"selectors"`
	Ztunnels    []handoff.Ztunnel `json:"ztunnels"`
	Pods        []PodStatus       `json:"pods"`
}

// PodStatus is one pod of the node, and why it is in the mesh or not.
type PodStatus struct {
	Namespace string       `json:"namespace"`
	Name      string       `json:"name"`
	UID       string       `json:"uid"`
	Verdict   string       `json:"verdict"` // enrolled, outside, refused
	Reason    string       `json:"reason"`
	Detail    string       `json:"detail"`
	Enrolled  bool         `json:"enrolled"` // hooks and listeners are in place
	Acked     bool         `json:"acked"`    // a ztunnel has taken it
	Error     string       `json:"error,omitempty"`
	Netns     uint64       `json:"netns,omitempty"` // cookie
	Addresses []netip.Addr `json:"addresses,omitempty"`
	Devices   []string     `json:"devices,omitempty"` // that the backstop watches
	Older     uint64       `json:"olderConnections,omitempty"`
	Since     time.Time    `json:"since"`
}

func (f *fleet) view() []PodStatus {
	out := []PodStatus{}
	for _, m := range f.members {
		s := PodStatus{
			Namespace: m.pod.Key.Namespace, Name: m.pod.Key.Name, UID: string(m.pod.UID),
			Verdict: m.decision.Verdict.String(), Reason: string(m.decision.Reason), Detail: m.decision.Detail,
			Enrolled: m.enrolled, Acked: m.acked, Netns: m.cookie, Devices: m.devices, Older: m.older, Since: m.since,
		}
		if m.enrolled {
			s.Addresses = m.state.Addrs()
		}
		if m.err != nil {
			s.Error = m.err.Error()
		} else if refusal := f.handoff.Status(m.pod.UID).Error; refusal != "" {
			s.Error = "ztunnel: " + refusal
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b PodStatus) int {
		return strings.Compare(a.Namespace+"/"+a.Name+a.UID, b.Namespace+"/"+b.Name+b.UID)
	})
	return out
}

// pods asks the fleet from another goroutine.
func (f *fleet) pods(ctx context.Context) ([]PodStatus, error) {
	answer := make(chan []PodStatus, 1)
	select {
	case f.views <- answer:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	select {
	case list := <-answer:
		return list, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// state sums a pod up in one word, for a metric.
func (s PodStatus) state() string {
	switch {
	case s.Enrolled && s.Acked:
		return "enabled"
	case s.Enrolled || s.Verdict == enroll.Enrolled.String():
		return "pending"
	default:
		return s.Verdict
	}
}
