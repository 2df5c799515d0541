package source

import "sync/atomic"

// watch is what is known of the watch of one kind of object before its first list is complete.
type watch struct {
	synced atomic.Pointer[func() bool]
	err    atomic.Pointer[string] // the last failure
}

func (w *watch) follow(synced func() bool) { w.synced.Store(&synced) }

func (w *watch) failed(err error) {
	text := err.Error()
	w.err.Store(&text)
}

// missing describes what has not been listed yet; "" is nothing.
func (w *watch) missing(what string) string {
	if synced := w.synced.Load(); synced != nil && (*synced)() {
		return ""
	}
	if err := w.err.Load(); err != nil {
		return what + " from the API server: " + *err
	}
	return what + " from the API server"
}

// Waiting says what the first snapshot waits for, with the API server's last error; from any goroutine.
func (k *Kubernetes) Waiting() (list []string) {
	for _, text := range []string{k.pods.missing("the pods of node " + k.node), k.namespaces.missing("the namespaces")} {
		if text != "" {
			list = append(list, text)
		}
	}
	return list
}
