package sockets

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ambit-mesh/ambit/agent/api"
)

type metrics struct {
	connected  prometheus.Gauge
	reconnects prometheus.Counter
	pods       prometheus.Gauge
	kinds      map[api.SocketKind]*kindMetrics
}

type kindMetrics struct {
	stocked prometheus.Gauge
	taken   prometheus.Counter
	waits   prometheus.Counter
	refused prometheus.Counter
	failed  prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		connected: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "ambit_ztunnel_agent_connected",
			Help: "1 while the node agent is connected. At 0 connections live on the stock of sockets: look at the agent.",
		}),
		reconnects: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ambit_ztunnel_agent_connection_ends_total",
			Help: "Connections to the node agent that ended. More than its restarts: look at the logs of both.",
		}),
		pods: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "ambit_ztunnel_pods",
			Help: "Pods whose sockets this ztunnel holds. Differs from the node's enrolled pods: look at the agent.",
		}),
		kinds: map[api.SocketKind]*kindMetrics{},
	}
	vec := func(name, help string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{"kind"})
		reg.MustRegister(v)
		return v
	}
	stocked := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "ambit_ztunnel_stocked_sockets",
		Help: "Ready-made sockets in stock for all pods. At 0 with the agent away new connections wait and then fail.",
	}, []string{"kind"})
	reg.MustRegister(m.connected, m.reconnects, m.pods, stocked)
	taken := vec("ambit_ztunnel_stock_taken_total", "Sockets taken to open a connection.")
	waits := vec("ambit_ztunnel_stock_waits_total", "Connections that found the stock empty and waited. Rises: bursts, or a slow agent.")
	refused := vec("ambit_ztunnel_stock_refusals_total", "Connections that failed because no socket came in time: look at the agent.")
	failed := vec("ambit_ztunnel_stock_requests_failed_total", "Requests for sockets that the agent did not fulfil: look at its log.")
	for kind, label := range map[api.SocketKind]string{
		api.SocketKind_TCP4: "tcp4", api.SocketKind_TCP6: "tcp6", api.SocketKind_UDP4: "udp4", api.SocketKind_UDP6: "udp6",
	} {
		m.kinds[kind] = &kindMetrics{
			stocked: stocked.WithLabelValues(label), taken: taken.WithLabelValues(label),
			waits: waits.WithLabelValues(label), refused: refused.WithLabelValues(label), failed: failed.WithLabelValues(label),
		}
	}
	return m
}
