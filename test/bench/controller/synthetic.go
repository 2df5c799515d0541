package main

import (
	"context"
	"sync/atomic"

	"github.com/ambit-mesh/ambit/controller/objects"
	"github.com/ambit-mesh/ambit/controller/source"
	"github.com/ambit-mesh/ambit/test/bench/controller/synth"
)

// synthetic is a source of a cluster that does not exist: decoded objects, trimmed as every source trims them, first all and
// then the changes it is told to make.
type synthetic struct {
	cluster synth.Cluster
	changes chan podChange
	written atomic.Int64 // statuses
}

// podChange asks for a pod's new revision.
type podChange struct {
	Pod      int
	Revision string
}

// chunk is how many objects are delivered together at the start, as a list in pages gives them.
const chunk = 500

// Run implements source.Source.
func (s *synthetic) Run(ctx context.Context, deliver func(source.Batch)) error {
	var b source.Batch
	for c := range s.cluster.Objects() {
		c.Object = objects.Trim(c.Object)
		if b.Changes = append(b.Changes, c); len(b.Changes) == chunk {
			deliver(b)
			b = source.Batch{}
		}
	}
	b.Synced = true
	deliver(b)
	for {
		select {
		case c := <-s.changes:
			b := source.Batch{Changes: []objects.Change{s.change(c)}, Synced: true}
			for more := true; more; {
				select {
				case c := <-s.changes:
					b.Changes = append(b.Changes, s.change(c))
				default:
					more = false
				}
			}
			deliver(b)
		case <-ctx.Done():
			return nil
		}
	}
}

func (s *synthetic) change(c podChange) objects.Change {
	p := objects.Trim(s.cluster.Pod(c.Pod, c.Revision))
	return objects.Change{Key: objects.Key{Kind: objects.Pod, Namespace: p.GetNamespace(), Name: p.GetName()}, Object: p}
}

// WriteStatus implements source.StatusWriter: there is nowhere to write to.
func (s *synthetic) WriteStatus(_ context.Context, statuses []objects.Status) error {
	s.written.Add(int64(len(statuses)))
	return nil
}
