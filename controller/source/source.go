// Package source says how objects reach the controller and conditions leave it: one interface for every place that keeps
// Kubernetes objects.
//
// It answers "what is there now, and what changed?" and decides nothing. The root package runs one Source; controller/source/folder
// watches a folder of manifests, controller/kube an API server.
package source

import (
	"context"

	"github.com/ambit-mesh/ambit/controller/objects"
)

// Batch is changes that belong together. An object that did not change is not in it.
type Batch struct {
	Changes []objects.Change
	// Synced says that with this batch everything that was there at the start has been delivered. It stays true.
	Synced bool
}

// Source delivers objects.
type Source interface {
	// Run delivers every object, then every change, until ctx ends. It calls deliver from one goroutine at a time and waits
	// for it to return; a slow receiver gets fewer, larger batches. Delivered objects are never changed afterwards.
	Run(ctx context.Context, deliver func(Batch)) error
}

// StatusWriter stores conditions where the owners of the objects will see them. The first call has the conditions of the whole first state; it comes
// even if there are none, so that a writer knows what is stale.
type StatusWriter interface {
	// WriteStatus replaces the mesh's conditions on each object named. What could not be written is tried again by the caller.
	WriteStatus(ctx context.Context, statuses []objects.Status) error
}
