package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/cache"

	"github.com/ambit-mesh/ambit/controller/objects"
)

// health knows what cannot be read. An outage is logged when it begins and when it ends, and counted in between; the last state
// stays throughout.
type health struct {
	log     *slog.Logger
	metrics *Metrics
	now     func() time.Time

	mu      sync.Mutex
	away    time.Time              // since when no answer came at all; zero while the server answers
	failing map[objects.Kind]error // why a kind cannot be read
	bad     map[objects.Key]error  // objects that came and could not be decoded
}

func newHealth(log *slog.Logger, m *Metrics) *health {
	return &health{log: log, metrics: m, now: time.Now, failing: map[objects.Kind]error{}, bad: map[objects.Key]error{}}
}

// outcome takes what came of a request for a kind. A server that does not answer is one outage, whatever was asked for; a
// refusal is one for each kind.
func (h *health) outcome(ctx context.Context, kind objects.Kind, err error) {
	if ctx.Err() != nil || routine(err) {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if err == nil {
		h.recoveredLocked(kind)
		return
	}
	h.metrics.sourceErrors.WithLabelValues(string(kind)).Inc()
	h.metrics.sourceFailing.WithLabelValues(string(kind)).Set(1)
	_, was := h.failing[kind]
	h.failing[kind] = err
	if answered(err) {
		if !was {
			h.log.Warn("api server refuses a kind; its last state stays", "kind", string(kind), "err", err)
		}
		return
	}
	if h.away.IsZero() {
		h.away = h.now()
		h.log.Warn("api server does not answer; the last state stays", "kind", string(kind), "err", err)
	}
}

func (h *health) recoveredLocked(kind objects.Kind) {
	if !h.away.IsZero() {
		h.log.Info("api server answers again", "kind", string(kind), "duration", h.now().Sub(h.away))
		h.away = time.Time{}
	}
	err, was := h.failing[kind]
	if !was {
		return
	}
	delete(h.failing, kind)
	h.metrics.sourceFailing.WithLabelValues(string(kind)).Set(0)
	if answered(err) {
		h.log.Info("kind can be read again", "kind", string(kind))
	}
}

// forget drops what is known about a kind that is not watched any more.
func (h *health) forget(kind objects.Kind) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.failing, kind)
	h.metrics.sourceFailing.DeleteLabelValues(string(kind))
	maps.DeleteFunc(h.bad, func(k objects.Key, _ error) bool { return k.Kind == kind })
	h.metrics.unreadable.DeleteLabelValues(string(kind))
}

// unread takes what came of decoding an object, and reports whether that is news.
func (h *health) unread(key objects.Key, err error) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	before, was := h.bad[key]
	switch {
	case err == nil && !was:
		return false
	case err == nil:
		delete(h.bad, key)
	case !was || before.Error() != err.Error():
		h.log.Error("object cannot be read; its last good version stays, if there was one", "object", key.String(), "err", err)
		h.bad[key] = err
	}
	h.countLocked(key.Kind)
	return true
}

// onlyUnread takes which objects of a kind there are that could not be decoded, and reports whether others were known.
func (h *health) onlyUnread(kind objects.Kind, now map[objects.Key]struct{}) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	before := len(h.bad)
	maps.DeleteFunc(h.bad, func(k objects.Key, _ error) bool {
		_, still := now[k]
		return k.Kind == kind && !still
	})
	if len(h.bad) == before {
		return false
	}
	h.countLocked(kind)
	return true
}

func (h *health) countLocked(kind objects.Kind) {
	n := 0
	for k := range h.bad {
		if k.Kind == kind {
			n++
		}
	}
	h.metrics.unreadable.WithLabelValues(string(kind)).Set(float64(n))
}

// unreadOf names the objects of a kind that could not be decoded.
func (h *health) unreadOf(kind objects.Kind) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []string
	for _, k := range slices.SortedFunc(maps.Keys(h.bad), objects.Key.Compare) {
		if k.Kind == kind {
			out = append(out, fmt.Sprintf("%s: %v", k, h.bad[k]))
		}
	}
	return out
}

// why says what keeps a kind from being read.
func (h *health) why(kind objects.Kind) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.failing[kind]; err != nil {
		return err.Error()
	}
	return "not read yet"
}

// refused is an informer's error handler for what a leader reads in order to write: without it a missing right would keep it waiting
// in silence. Each answer is logged once; that the server is away is known from the source.
func refused(log *slog.Logger, what string) func(context.Context, *cache.Reflector, error) {
	var last string // one goroutine calls
	return func(_ context.Context, _ *cache.Reflector, err error) {
		if answered(err) && !routine(err) && err.Error() != last {
			last = err.Error()
			log.Warn("cannot be read, so nothing is written there; trying again", "what", what, "err", err)
		}
	}
}

// answered reports an error that an API server gave, not the way to it.
func answered(err error) bool {
	var status apierrors.APIStatus
	return errors.As(err, &status)
}

// routine reports a refusal that belongs to a watch's life: it begins anew.
func routine(err error) bool { return apierrors.IsResourceExpired(err) || apierrors.IsGone(err) }
