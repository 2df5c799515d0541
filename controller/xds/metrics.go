package xds

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the server's. Names that Istio has are Istio's.
type Metrics struct {
	clients     prometheus.Gauge
	pushes      *prometheus.CounterVec
	resources   *prometheus.CounterVec
	bytes       *prometheus.HistogramVec
	convergence prometheus.Histogram
	rejects     *prometheus.CounterVec
	expired     prometheus.Counter
	refused     *prometheus.CounterVec
}

// NewMetrics makes and registers them.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		clients: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "ambit_controller_xds_clients",
			Help: "Connected xDS clients. Fewer than nodes: a node proxy cannot connect; look at its log.",
		}),
		pushes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pilot_xds_pushes", Help: "Responses sent, by type.",
		}, []string{"type"}),
		resources: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ambit_controller_xds_resources_total", Help: "Resources sent, by type and whether they were removed.",
		}, []string{"type", "change"}),
		bytes: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "pilot_xds_config_size_bytes", Help: "Size of responses, by type.", Buckets: []float64{1, 10000, 1000000, 4000000, 10000000, 40000000},
		}, []string{"type"}),
		convergence: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "pilot_proxy_convergence_time", Help: "Seconds from a change to its response being handed to a client's connection.",
			Buckets: []float64{.001, .005, .01, .05, .1, .5, 1, 3, 5, 10, 20, 30},
		}),
		rejects: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pilot_total_xds_rejects", Help: "Responses that clients rejected, by type. Not zero: the log names client and reason.",
		}, []string{"type"}),
		expired: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "pilot_xds_expired_nonce", Help: "Answers to a response that is not the newest. They are ignored.",
		}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ambit_controller_xds_refused_total", Help: "Streams refused, by reason. The log says who and why.",
		}, []string{"reason"}),
	}
	reg.MustRegister(m.clients, m.pushes, m.resources, m.bytes, m.convergence, m.rejects, m.expired, m.refused)
	return m
}

func (m *Metrics) sent(r *response, size int) {
	typ := shortType(r.typeURL)
	m.pushes.WithLabelValues(typ).Inc()
	m.resources.WithLabelValues(typ, "set").Add(float64(len(r.frames)))
	m.resources.WithLabelValues(typ, "removed").Add(float64(len(r.removed)))
	m.bytes.WithLabelValues(typ).Observe(float64(size))
}

// shortType is the label of a type: the last part of its URL. Sessions admit known types only, so the set is bounded.
func shortType(url string) string { return url[strings.LastIndexByte(url, '.')+1:] }
