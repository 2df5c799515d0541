package agent

import (
	"log/slog"
	"time"

	"github.com/ambit-mesh/ambit/agent/datapath"
	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the reconcile loop's.
type metrics struct {
	pods  *prometheus.GaugeVec
	older prometheus.Counter
	pass  prometheus.Histogram
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		pods: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "ambit_agent_pods",
			Help: "Pods of the node by state and reason; refused and pending ones need a look at /status.",
		}, []string{"state", "reason"}),
		older: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ambit_agent_older_connections_total",
			Help: "Connections that were open when their pod was enrolled and go past the mesh until they end.",
		}),
		pass: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "ambit_agent_reconcile_seconds",
			Help: "Time of a pass over all pods; long ones delay pods that start.", Buckets: prometheus.ExponentialBuckets(0.0005, 4, 8),
		}),
	}
	r.MustRegister(m.pods, m.older, m.pass)
	return m
}

func (m *metrics) observe(list []PodStatus, took time.Duration) {
	m.pods.Reset()
	for _, p := range list {
		m.pods.WithLabelValues(p.state(), p.Reason).Inc()
	}
	m.pass.Observe(took.Seconds())
}

// kernelCollector reads the kernel programs' counters when it is asked.
type kernelCollector struct {
	d          *datapath.Datapath
	log        *slog.Logger
	outcomes   *prometheus.Desc
	handshakes *prometheus.Desc
}

func newKernelCollector(d *datapath.Datapath, log *slog.Logger) *kernelCollector {
	return &kernelCollector{
		d: d, log: log,
		outcomes: prometheus.NewDesc("ambit_agent_datapath_outcomes_total",
			"What the kernel programs did, since they were first loaded; denied, dropped, missing and lost ones need a look.", []string{"outcome"}, nil),
		handshakes: prometheus.NewDesc("ambit_agent_datapath_handshakes",
			"Connections between connect and accept at the last sweep, and how many there may be; at the limit connects fail.", []string{"which"}, nil),
	}
}

// Describe implements prometheus.Collector.
func (c *kernelCollector) Describe(to chan<- *prometheus.Desc) { to <- c.outcomes; to <- c.handshakes }

// Collect implements prometheus.Collector.
func (c *kernelCollector) Collect(to chan<- prometheus.Metric) {
	counters, err := c.d.Counters()
	if err != nil {
		c.log.Warn("kernel counters cannot be read", "err", err)
		return
	}
	for outcome, n := range counters {
		to <- prometheus.MustNewConstMetric(c.outcomes, prometheus.CounterValue, float64(n), outcome.String())
	}
	open, most := c.d.Handshakes()
	to <- prometheus.MustNewConstMetric(c.handshakes, prometheus.GaugeValue, float64(open), "open")
	to <- prometheus.MustNewConstMetric(c.handshakes, prometheus.GaugeValue, float64(most), "limit")
}
