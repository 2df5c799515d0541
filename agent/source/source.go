// Package source answers which pods and namespaces the agent's node has, and tells the world which pods are captured. There
// are two implementations: [Folder], the lab's watched folder of manifests, and [Kubernetes]. It judges nothing and knows
// nothing of eBPF or sockets; the agent's reconcile loop is its only caller. client-go is imported nowhere else.
//
// Both sources publish immutable snapshots: Set may be called from any goroutine; Changed is for one receiver.
package source

import (
	"sync/atomic"

	"github.com/ambit-mesh/ambit/agent/pods"
)

// Redirection is the annotation that tells the controller whether a pod's traffic is captured.
const Redirection = "ambient.istio.io/redirection"

// Values of Redirection; no annotation: not in the mesh.
const (
	Enabled = "enabled" // hooks, listeners and a ztunnel that has acknowledged the pod
	Pending = "pending" // the pod belongs to the mesh and something is still missing
)

// published is the newest snapshot and the news of it.
type published struct {
	set     atomic.Pointer[pods.Set]
	changed chan struct{}
}

func newPublished() published { return published{changed: make(chan struct{}, 1)} }

func (p *published) publish(s *pods.Set) {
	p.set.Store(s)
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// Set is the newest snapshot; nil before the first is complete.
func (p *published) Set() *pods.Set { return p.set.Load() }

// Changed tells that Set changed since it was last received from.
func (p *published) Changed() <-chan struct{} { return p.changed }
