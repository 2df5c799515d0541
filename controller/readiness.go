package controller

import (
	"net/http"
	"strings"
	"sync"
)

// readiness is what the controller still waits for before it can serve. It is safe for concurrent use.
type readiness struct {
	mu      sync.Mutex
	missing []string
}

func newReadiness(missing ...string) *readiness { return &readiness{missing: missing} }

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
	missing := strings.Join(r.missing, "\n")
	r.mu.Unlock()
	if missing != "" {
		http.Error(w, missing, http.StatusServiceUnavailable)
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
