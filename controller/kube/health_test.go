package kube

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/ambit-mesh/ambit/controller/objects"
)

// TestOutage: an outage is two lines in the log, however many requests fail in it; a refusal is two for each kind.
func TestOutage(t *testing.T) {
	var out strings.Builder
	m := NewMetrics(prometheus.NewRegistry())
	h := newHealth(slog.New(slog.NewTextHandler(&out, nil)), m)
	ctx := t.Context()
	away := errors.New("connection refused")
	forbidden := apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "", errors.New("no"))
	for range 5 {
		for _, k := range []objects.Kind{objects.Pod, objects.Service} {
			h.outcome(ctx, k, away)
		}
	}
	if n := strings.Count(out.String(), "\n"); n != 1 || !strings.Contains(out.String(), "does not answer") {
		t.Errorf("%d lines: %s", n, out.String())
	}
	if got := testutil.ToFloat64(m.sourceErrors.WithLabelValues("Pod")); got != 5 {
		t.Errorf("counted %v", got)
	}
	h.outcome(ctx, objects.Pod, nil)
	h.outcome(ctx, objects.Service, nil)
	if n := strings.Count(out.String(), "\n"); n != 2 || !strings.Contains(out.String(), "answers again") {
		t.Errorf("%d lines: %s", n, out.String())
	}
	if testutil.ToFloat64(m.sourceFailing.WithLabelValues("Pod")) != 0 {
		t.Error("still failing")
	}
	out.Reset()
	for range 3 {
		h.outcome(ctx, objects.Pod, forbidden)
	}
	if !strings.Contains(h.why(objects.Pod), "forbidden") || strings.Count(out.String(), "\n") != 1 {
		t.Errorf("%s: %s", h.why(objects.Pod), out.String())
	}
	h.outcome(ctx, objects.Pod, nil)
	if h.why(objects.Pod) != "not read yet" || strings.Count(out.String(), "\n") != 2 {
		t.Errorf("%s: %s", h.why(objects.Pod), out.String())
	}
	out.Reset()
	ended, cancel := context.WithCancel(ctx)
	cancel()
	h.outcome(ended, objects.Pod, away)
	h.outcome(ctx, objects.Pod, apierrors.NewResourceExpired("old"))
	if out.Len() > 0 {
		t.Errorf("what belongs to a watch's life is an outage: %s", out.String())
	}
}
