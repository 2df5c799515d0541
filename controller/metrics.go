package controller

import (
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ambit-mesh/ambit/controller/objects"
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

	conns        *prometheus.GaugeVec
	refusedConns *prometheus.CounterVec
	debounce     prometheus.Histogram
	inbound      *prometheus.CounterVec
	events       map[bool]*prometheus.CounterVec // of configuration, and of what runs
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
	m.conns = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "ambit_controller_connections", Help: "Connections, by port: grpc, http or webhook.",
	}, []string{"port"})
	m.refusedConns = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "ambit_controller_connections_refused_total",
		Help: "Connections closed, by port and reason: too_many (add replicas), too_many_of_address or too_much_of_unknown (who is no node proxy sends too much; the log names the address).",
	}, []string{"port", "reason"})
	m.debounce = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "pilot_debounce_time", Help: "Seconds a batch of changes waited for the one before it.", Buckets: []float64{.001, .005, .01, .1, .5, 1, 3, 5, 10, 20, 30},
	})
	m.inbound = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "pilot_inbound_updates", Help: "Changes delivered by the source, by type: eds, svc, svcdelete or config.",
	}, []string{"type"})
	m.events = map[bool]*prometheus.CounterVec{
		true:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "pilot_k8s_cfg_events", Help: "Changed configuration objects, by kind and event."}, []string{"type", "event"}),
		false: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "pilot_k8s_reg_events", Help: "Changed objects of what runs, by kind and event."}, []string{"type", "event"}),
	}
	reg.MustRegister(m.conns, m.refusedConns, m.debounce, m.inbound, m.events[true], m.events[false])
	info := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "pilot_info", Help: "The controller's version."}, []string{"version"})
	info.WithLabelValues(version).Set(1)
	reg.MustRegister(m.changes, m.translate, m.resources, m.problems, m.panics, m.unencodable, info)
	return m
}

// arrived counts what a source delivered, under Istio's names. Sources do not tell an addition from an update.
func (m *metrics) arrived(changes []objects.Change) {
	for _, c := range changes {
		event, update := "update", "config"
		if c.Object == nil {
			event = "delete"
		}
		config := false
		switch c.Key.Kind {
		case objects.Pod, objects.EndpointSlice, objects.WorkloadEntry:
			update = "eds"
		case objects.Service, objects.ServiceEntry:
			if update = "svc"; c.Object == nil {
				update = "svcdelete"
			}
		case objects.Namespace, objects.Node, objects.ServiceAccount:
		default:
			config = true
		}
		m.inbound.WithLabelValues(update).Inc()
		m.events[config].WithLabelValues(string(c.Key.Kind), event).Inc()
	}
}
