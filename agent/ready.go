package agent

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
