package agent

import (
	"context"
	"fmt"
	"time"
)

const (
	// stuckTime without a sign of life of the reconcile loop means that it hangs. It turns once a resync at least, and a pass
	// that only is slow shows itself at every pod.
	stuckTime = 5 * resync
	// annotateLimit is the time that the API server has for an annotation: it may keep the loop from other pods.
	annotateLimit = 10 * time.Second
)

// beat notes that the reconcile loop lives.
func (f *fleet) beat() { f.alive.Store(time.Now().UnixNano()) }

// stuck says since when the reconcile loop gives no sign of life; nil: it does, or has yet to begin. From any goroutine.
func (f *fleet) stuck(now time.Time) error {
	last := f.alive.Load()
	if silent := now.Sub(time.Unix(0, last)); last != 0 && silent > stuckTime {
		return fmt.Errorf("the loop over the node's pods has not turned for %s", silent.Round(time.Second))
	}
	return nil
}

// note is annotate within its time.
func (f *fleet) note(ctx context.Context, m *member) error {
	f.beat()
	ctx, cancel := context.WithTimeout(ctx, annotateLimit)
	defer cancel()
	return f.annotate(ctx, m)
}

// waitingSource is a source that knows why its first snapshot is not complete.
type waitingSource interface {
	Waiting() []string
}

// chained notes whether the CNI plugin is in its place; err says why not. From any goroutine.
func (f *fleet) chained(err error) {
	if err == nil {
		f.unchained.Store(nil)
		return
	}
	why := err.Error()
	f.unchained.Store(&why)
}

// missing names everything for which the agent is not ready, from any goroutine. A plugin that somebody took out of the node's
// CNI configuration makes it unready again: new pods would start outside the mesh.
func (f *fleet) missing() (all []string) {
	if f.source.Set() == nil {
		if w, ok := f.source.(waitingSource); ok {
			all = w.Waiting()
		}
		if len(all) == 0 {
			all = []string{"the node's pods"}
		}
		return all // the rest follows from it
	}
	select {
	case <-f.complete:
	default:
		return []string{"the first pass over the node's pods"}
	}
	if why := f.unchained.Load(); why != nil {
		all = append(all, "a place for the plugin in the node's CNI configuration: "+*why)
	}
	return all
}
