package kube

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ambit-mesh/ambit/controller/objects"
)

// Metrics are those of everything that talks to the API server.
type Metrics struct {
	events *prometheus.CounterVec

	sourceErrors  *prometheus.CounterVec
	sourceFailing *prometheus.GaugeVec
	missing       *prometheus.GaugeVec
	unreadable    *prometheus.GaugeVec

	statusWrites  *prometheus.CounterVec
	statusQueue   prometheus.Gauge
	rootWrites    *prometheus.CounterVec
	webhookWrites *prometheus.CounterVec
	leader        prometheus.Gauge
	reviews       *prometheus.CounterVec
}

// NewMetrics makes and registers them.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	}
	m := &Metrics{
		events:        counter("ambit_controller_source_events_total", "What the API server reported, by kind: add, update, delete, and updatesame, in which nothing concerns the mesh.", "kind", "event"),
		sourceErrors:  counter("ambit_controller_source_errors_total", "Lists and watches that failed. Growing: the log says why; the last state stays.", "kind"),
		sourceFailing: gauge("ambit_controller_source_failing", "1 while a kind cannot be read: changes of it do not reach the mesh. Look at the log, the API server and the controller's rights.", "kind"),
		missing:       gauge("ambit_controller_source_missing", "1 while a kind's CustomResourceDefinition is not installed. Install it if the kind is wanted; the controller needs no restart.", "kind"),
		unreadable:    gauge("ambit_controller_source_unreadable_objects", "Objects that came and could not be decoded; their last good versions stay. Not zero: the log names them.", "kind"),
		statusWrites:  counter("ambit_controller_status_writes_total", "Conditions written, by kind and result. Errors: the log says why; each is tried again.", "kind", "result"),
		statusQueue:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "ambit_controller_status_queue", Help: "Objects whose conditions wait to be written. Not falling: the API server is slow or refuses."}),
		rootWrites:    counter("ambit_controller_root_configmap_writes_total", "Writes of the root certificates to namespaces, by result. Growing without new namespaces: somebody else writes the same ConfigMap.", "result"),
		webhookWrites: counter("ambit_controller_webhook_bundle_writes_total", "Writes of the root certificates to webhook configurations, by result. Growing without a rotation: somebody else writes caBundle.", "result"),
		leader:        prometheus.NewGauge(prometheus.GaugeOpts{Name: "ambit_controller_leader", Help: "1 on the replica that writes. The sum over replicas is 1, with --leader-election=false 0; 0 for long: the log says why the lease cannot be had."}),
		reviews:       counter("ambit_controller_token_reviews_total", "Tokens of callers, by result: accepted, refused, error (the API server gave no answer), overload (too many at once: look for who sends them), cached, malformed (refused without asking).", "result"),
	}
	reg.MustRegister(m.events, m.sourceErrors, m.sourceFailing, m.missing, m.unreadable,
		m.statusWrites, m.statusQueue, m.rootWrites, m.webhookWrites, m.leader, m.reviews)
	return m
}

func (m *Metrics) event(kind objects.Kind, event string) {
	m.events.WithLabelValues(string(kind), event).Inc()
}
