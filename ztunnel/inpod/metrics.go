package inpod

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	active           prometheus.Gauge
	started, stopped prometheus.Counter
	acceptErrors     *prometheus.CounterVec
	limited          *prometheus.CounterVec
	cut              *prometheus.CounterVec
	judged, panics   prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		// Istio's names, so that its dashboards work.
		active: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "workload_manager_active_proxy_count", Help: "Pods that are served (unstable).",
		}),
		started: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "workload_manager_proxies_started_total", Help: "Pods that began to be served (unstable).",
		}),
		stopped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "workload_manager_proxies_stopped_total", Help: "Pods of which nothing is left (unstable).",
		}),
		acceptErrors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ambit_ztunnel_accept_errors_total",
			Help: "Connections that could not be accepted. Rises: look for the limit of open files or memory in the log.",
		}, []string{"listener"}),
		limited: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ambit_ztunnel_pod_limit_hits_total",
			Help: "Times a pod was at one of its limits. Rises: a pod is flooded, or floods; or the limit is too low.",
		}, []string{"limit"}),
		cut: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ambit_ztunnel_policy_cuts_total",
			Help: "Live connections that were closed because policy denies them now, by reason.",
		}, []string{"reason"}),
		judged: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ambit_ztunnel_policy_rejudgements_total",
			Help: "Judgements made again for live connections because policy changed.",
		}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ambit_ztunnel_panics_total",
			Help: "Connections lost to a bug in the ztunnel. Should be 0: report what the log says.",
		}),
	}
	reg.MustRegister(m.active, m.started, m.stopped, m.acceptErrors, m.limited, m.cut, m.judged, m.panics)
	return m
}
