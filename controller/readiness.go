package controller

import (
	"net/http"
	"slices"
	"strings"
	"sync"
)

// readiness is what the controller still waits for before it can serve. It is safe for concurrent use.
type readiness struct {
	mu      sync.Mutex
	missing []string
	details map[string]func() []string
}

func newReadiness(missing ...string) *readiness {
	return &readiness{missing: missing, details: map[string]func() []string{}}
}

// why has f asked for more about something while it is missing. It is called before the first answer.
func (r *readiness) why(what string, f func() []string) { r.details[what] = f }

// set says that what is there, or, if it is not, that it is missing.
func (r *readiness) set(what string, there bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var rest []string
	for _, m := range r.missing {
		if m != what {
			rest = append(rest, m)
		}
	}
	if !there {
		rest = append(rest, what)
	}
	r.missing = rest
}

// ServeHTTP answers 200, or 503 and a line for everything that is missing.
func (r *readiness) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	r.mu.Lock()
	missing := slices.Clone(r.missing)
	r.mu.Unlock()
	if len(missing) > 0 {
		var out []string
		for _, m := range missing {
			out = append(out, m)
			if f := r.details[m]; f != nil {
				out = append(out, f()...)
			}
		}
		http.Error(w, strings.Join(out, "\n"), http.StatusServiceUnavailable)
		return
	}
	_, _ = w.Write([]byte("ready\n"))
}

// What is waited for.
const (
	missingState   = "the first state has not been read yet"
	missingServing = "no clients are taken yet"
	missingLeaving = "the controller is shutting down"
)
