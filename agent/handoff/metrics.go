package handoff

import "github.com/prometheus/client_golang/prometheus"

// Metrics are the hand-off's, made once for a process.
type Metrics struct {
	ztunnels   *prometheus.GaugeVec
	absent     prometheus.Gauge
	refusals   *prometheus.CounterVec
	suppressed *prometheus.CounterVec
	returned   *prometheus.CounterVec
	requests   *prometheus.CounterVec
	sockets    *prometheus.CounterVec
	resets     prometheus.Counter
	ackErrors  prometheus.Counter
}

// NewMetrics registers them.
func NewMetrics(r prometheus.Registerer) *Metrics {
	counter := func(name, help string) prometheus.CounterOpts { return prometheus.CounterOpts{Name: name, Help: help} }
	m := &Metrics{
		ztunnels: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "ambit_agent_ztunnels",
			Help: "Connected ztunnels by state; one should be ready.",
		}, []string{"state"}),
		absent: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "ambit_agent_ztunnel_absence_seconds",
			Help: "Time without a ztunnel that accepts; connections wait, and after the limit are reset.",
		}),
		refusals: prometheus.NewCounterVec(counter("ambit_agent_handoff_refusals_total",
			"Hand-off connections refused; anything but version during an upgrade means that somebody else tries."), []string{"reason"}),
		suppressed: prometheus.NewCounterVec(counter("ambit_agent_handoff_log_lines_suppressed_total",
			"Log lines of hand-off connections left out because there were too many; a process connects again and again."), []string{"reason"}),
		returned: prometheus.NewCounterVec(counter("ambit_agent_listeners_returned_total",
			"Pods whose listeners a ztunnel returned after the agent or the connection restarted."), []string{"outcome"}),
		requests: prometheus.NewCounterVec(counter("ambit_agent_socket_requests_total",
			"Requests of ztunnels for sockets; reduced or refused means that a rate limit was met or a pod is gone."), []string{"outcome"}),
		sockets: prometheus.NewCounterVec(counter("ambit_agent_sockets_passed_total",
			"Sockets made in pods and passed to ztunnels."), []string{"kind"}),
		resets: prometheus.NewCounter(counter("ambit_agent_waiting_connections_reset_total",
			"Connections and DNS queries given up because no ztunnel came; look at the ztunnel.")),
		ackErrors: prometheus.NewCounter(counter("ambit_agent_pods_refused_by_ztunnel_total",
			"Pods that a ztunnel could not take; its log says why, and each is offered again.")),
	}
	r.MustRegister(m.ztunnels, m.absent, m.refusals, m.suppressed, m.returned, m.requests, m.sockets, m.resets, m.ackErrors)
	return m
}
