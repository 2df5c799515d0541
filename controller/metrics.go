package controller

import (
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are those of the wiring; xds and ca have their own.
type metrics struct {
	log         *slog.Logger
	changes     prometheus.Counter
	translate   prometheus.Histogram
	resources   *prometheus.GaugeVec
	problems    prometheus.Gauge
	panics      prometheus.Counter
	unencodable prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, log *slog.Logger, version string) *metrics {
	m := &metrics{
		log: log,
		changes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ambit_controller_object_changes_total", Help: "Changed objects delivered by the source.",
		}),
		translate: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "ambit_controller_translate_seconds", Help: "Time to translate a batch of changes. Growing with the cluster: report it.",
			Buckets: []float64{.0001, .0005, .001, .005, .01, .05, .1, .5, 1, 5},
		}),
		resources: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "ambit_controller_resources", Help: "Resources published, by xDS type.",
		}, []string{"type"}),
		problems: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "ambit_controller_manifest_problems", Help: "Things wrong with manifests. Not zero: the log and /debug/config name file, line and field.",
		}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ambit_controller_request_panics_total", Help: "Requests that ran into a bug. Not zero: report the stack in the log.",
		}),
	}
	m.unencodable = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "ambit_controller_unencodable_resources_total", Help: "Resources with text that is not UTF-8. Not zero: the log names them; clients keep what they had.",
	})
	info := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "pilot_info", Help: "The controller's version."}, []string{"version"})
	info.WithLabelValues(version).Set(1)
	reg.MustRegister(m.changes, m.translate, m.resources, m.problems, m.panics, m.unencodable, info)
	return m
}
