// Package webhook answers an API server that asks whether an object may be stored: admission.k8s.io/v1 over HTTP.
//
// Package validate judges; this one translates its findings: errors refuse, warnings are shown to whoever applies the object,
// information is left out. Only objects of Istio's API groups are ever refused. Of others, of kinds and fields it does not know,
// of deletions and statuses it lets pass whatever comes: an older controller must not block a newer cluster. A field of a
// security policy that it does not know refuses, because what is left would mean something else. An update is not refused for
// what was wrong with the object before. What it cannot answer (no JSON, too large, too many at once, a panic) is an HTTP error:
// failurePolicy decides then. Stateless; safe for concurrent use. The root package serves it at :15017/validate, where
// Istio's webhook is, with the mesh's certificate.
package webhook

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	admissionv1 "k8s.io/api/admission/v1"

	"github.com/ambit-mesh/ambit/controller/validate"
)

const (
	// Path is where the API server asks.
	Path = "/validate"
	// maxBody bounds a review: it holds the old and the new object, each at most as large as etcd takes (1.5 MiB) with room.
	maxBody = 8 << 20
	// maxReviews bounds reviews at once; more are answered 503. Bodies are read before, so that slow ones keep nobody waiting.
	maxReviews = 32
)

// Config is what a Handler needs.
type Config struct {
	Log      *slog.Logger
	Registry prometheus.Registerer
	Settings validate.Settings
}

type handler struct {
	cfg     Config
	metrics *metrics
	slots   chan struct{}
	bodies  bodies
}

// New makes the handler of Path.
func New(cfg Config) http.Handler {
	h := &handler{cfg: cfg, metrics: newMetrics(cfg.Registry), slots: make(chan struct{}, maxReviews)}
	h.bodies.within = bodyTime
	h.bodies.left.Store(maxBodies)
	mux := http.NewServeMux()
	mux.Handle("POST "+Path, h)
	return mux
}

// ServeHTTP implements http.Handler.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer func() {
		if p := recover(); p != nil {
			h.cfg.Log.Error("admission review panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			h.refuse(w, http.StatusInternalServerError, errors.New("internal error"))
		}
	}()
	body, done, status, err := h.bodies.read(w, r)
	defer done()
	if err != nil {
		h.refuse(w, status, err)
		return
	}
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	default:
		h.refuse(w, http.StatusServiceUnavailable, fmt.Errorf("more than %d reviews at once", maxReviews))
		return
	}
	var review admissionv1.AdmissionReview
	if status, err := decode(body, &review); err != nil {
		h.refuse(w, status, err)
		return
	}
	req := review.Request
	response := Review(req, h.cfg.Settings)
	h.metrics.count(req, response)
	if !response.Allowed {
		h.cfg.Log.Info("object refused", "kind", req.Kind.Kind, "namespace", req.Namespace, "name", req.Name, "user", req.UserInfo.Username, "reason", response.Result.Message)
	}
	review.Request, review.Response = nil, response
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(review); err != nil {
		h.cfg.Log.Debug("admission response cannot be sent", "err", err)
	}
}

func decode(body []byte, into *admissionv1.AdmissionReview) (status int, err error) {
	if err := json.Unmarshal(body, into); err != nil {
		return http.StatusBadRequest, fmt.Errorf("review: %w", err)
	}
	if into.Request == nil || into.APIVersion != admissionv1.SchemeGroupVersion.String() || into.Kind != "AdmissionReview" {
		return http.StatusBadRequest, errors.New("not an AdmissionReview of admission.k8s.io/v1 with a request")
	}
	return 0, nil
}

func (h *handler) refuse(w http.ResponseWriter, status int, err error) {
	h.metrics.errors.WithLabelValues(strconv.Itoa(status)).Inc()
	h.cfg.Log.Warn("admission review cannot be answered", "status", status, "err", err)
	http.Error(w, err.Error(), status)
}
