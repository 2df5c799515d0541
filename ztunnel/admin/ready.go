package admin

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// Readiness is the list of what must have happened before the ztunnel can serve. The zero value is ready; safe for
// concurrent use.
type Readiness struct {
	mu      sync.Mutex
	pending []string
}

// Pending adds a task, named for people ("state manager", "certificate"), and returns what to call when it is done. A task
// done stays done: readiness is about the start, not about health.
func (r *Readiness) Pending(name string) (done func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pending = append(r.pending, name)
	return sync.OnceFunc(func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		i := slices.Index(r.pending, name)
		r.pending = slices.Delete(r.pending, i, i+1)
	})
}

// Missing lists what is not done, sorted.
func (r *Readiness) Missing() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	missing := slices.Clone(r.pending)
	slices.Sort(missing)
	return missing
}

func readyHandler(r *Readiness) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz/ready", func(w http.ResponseWriter, _ *http.Request) {
		if missing := r.Missing(); len(missing) > 0 {
			w.WriteHeader(http.StatusInternalServerError)
			fmt.Fprintf(w, "not ready, pending: %s\n", strings.Join(missing, ", "))
			return
		}
		fmt.Fprintln(w, "ready")
	})
	return mux
}
