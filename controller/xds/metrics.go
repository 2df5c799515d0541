package xds

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the server's. Names that Istio has are Istio's.
type Metrics struct {
	clients     prometheus.Gauge
	versions    *prometheus.GaugeVec
	pushes      *prometheus.CounterVec
	resources   *prometheus.CounterVec
	bytes       *prometheus.HistogramVec
	convergence prometheus.Histogram
	rejects     *prometheus.CounterVec
	rejected    *prometheus.GaugeVec
	expired     prometheus.Counter
	timeouts    prometheus.Counter
	internal    prometheus.Counter
	pushTime    prometheus.Histogram
	sendTime    prometheus.Histogram
	ended       *prometheus.CounterVec
	refused     *prometheus.CounterVec
	byType      map[string]ofType // by type URL
}

// NewMetrics makes and registers them.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		clients: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "ambit_controller_xds_clients",
			Help: "Connected xDS clients. Fewer than nodes: a node proxy cannot connect; look at its log.",
		}),
		versions: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "pilot_xds", Help: "Connected xDS clients, by the version they say they are of.",
		}, []string{"version"}),
		rejected: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "ambit_controller_xds_rejected_resources",
			Help: "Resources that connected clients rejected and that have not changed since, by type. Not zero: /debug/syncz names them.",
		}, []string{"type"}),
		timeouts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "pilot_xds_write_timeout", Help: "Clients disconnected because they did not read, or did not answer. Rising: a node is overloaded; the log names it.",
		}),
		internal: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "pilot_total_xds_internal_errors", Help: "Resources that could not be encoded, and responses that no client can take. Not zero: report what the log says.",
		}),
		pushTime: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "pilot_xds_push_time", Help: "Seconds to work out a response.", Buckets: []float64{.0001, .001, .01, .1, 1, 3, 5, 10, 20, 30},
		}),
		sendTime: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "pilot_xds_send_time", Help: "Seconds until a client's connection took a response.", Buckets: []float64{.0001, .001, .01, .1, 1, 3, 5, 10, 20, 30},
		}),
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ambit_controller_xds_ended_total", Help: "Streams the controller ended, by reason.",
		}, []string{"reason"}),
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
	m.byType = map[string]ofType{}
	for _, url := range types {
		typ := shortType(url)
		m.byType[url] = ofType{
			m.pushes.WithLabelValues(typ), m.resources.WithLabelValues(typ, "set"), m.resources.WithLabelValues(typ, "removed"), m.bytes.WithLabelValues(typ),
		}
	}
	reg.MustRegister(m.clients, m.versions, m.pushes, m.resources, m.bytes, m.convergence, m.rejects, m.rejected, m.expired, m.timeouts, m.internal,
		m.pushTime, m.sendTime, m.ended, m.refused)
	return m
}

// maxVersions bounds the versions that are told apart: clients make them up.
const maxVersions = 16

// connected counts clients by version, the table of them being the caller's and under its lock.
func (m *Metrics) connected(now map[string]int, version string, n int) {
	m.clients.Add(float64(n))
	now[version] += n
	if now[version] == 0 {
		delete(now, version)
		m.versions.DeleteLabelValues(version)
		return
	}
	m.versions.WithLabelValues(version).Set(float64(now[version]))
}

// versionLabel is how a client's version is counted.
func versionLabel(now map[string]int, version string) string {
	if _, known := now[version]; known || len(now) < maxVersions && len(version) <= 64 {
		return version
	}
	return "other"
}

// Failed counts a resource that could not be published.
func (m *Metrics) Failed() { m.internal.Inc() }

// ofType is what is counted for every response, looked up once.
type ofType struct {
	pushes, set, removed prometheus.Counter
	bytes                prometheus.Observer
}

func (m *Metrics) sent(r *response) {
	t := m.byType[r.typeURL]
	t.pushes.Inc()
	t.set.Add(float64(len(r.frames)))
	t.removed.Add(float64(len(r.removed)))
	t.bytes.Observe(float64(r.size))
}

// shortType is the label of a type: the last part of its URL. Sessions admit known types only, so the set is bounded.
func shortType(url string) string { return url[strings.LastIndexByte(url, '.')+1:] }
