package outbound

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	held    *prometheus.CounterVec
	unknown prometheus.Counter
	retries prometheus.Counter
	lookups prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		held: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ambit_ztunnel_connections_held_total",
			Help: "Connections that waited because it could not be told where to, by reason. Rises: the control plane is slow or away.",
		}, []string{"reason"}),
		unknown: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ambit_ztunnel_unknown_addresses_total",
			Help: "Connections to an address in the mesh's ranges that stayed unknown and went outside the mesh. Rises: the control plane lags, or the ranges are too wide.",
		}),
		retries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ambit_ztunnel_endpoint_retries_total",
			Help: "Connections that were tried with another endpoint because the first could not be reached. Rises: endpoints fail before they are taken out.",
		}),
		lookups: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ambit_ztunnel_hostname_lookups_total",
			Help: "Lookups of workloads that have a host name and no address.",
		}),
	}
	reg.MustRegister(m.held, m.unknown, m.retries, m.lookups)
	return m
}
