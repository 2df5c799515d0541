package telemetry

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Instruments are Istio's metrics besides those of connections. The parts that they speak of count them through the
// methods; each is safe for concurrent use.
type Instruments struct {
	dnsRequests, dnsUpstream, dnsFailures *prometheus.CounterVec
	dnsDuration                           *prometheus.HistogramVec
	xdsTerminations                       *prometheus.CounterVec
	xdsMessages, xdsBytes                 *prometheus.CounterVec
	sockets                               *prometheus.GaugeVec
	proxies, pending                      prometheus.Gauge
	started, stopped                      prometheus.Counter
}

// Build says what is running.
type Build struct {
	Version, Revision, GoVersion string
}

// NewInstruments registers them on reg, with istio_build, ambit_ztunnel_build_info and the process's own metrics.
func NewInstruments(reg prometheus.Registerer, b Build) (*Instruments, error) {
	dns := []string{"request_query_type", "request_protocol", "source_canonical_service", "source_canonical_revision"}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help + " (unstable)."}, labels)
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help + " (unstable)."})
	}
	i := &Instruments{
		dnsRequests: counter("istio_dns_requests_total", "DNS requests answered by the mesh or forwarded", dns...),
		dnsUpstream: counter("istio_dns_upstream_requests_total", "DNS requests forwarded to another server", dns...),
		dnsFailures: counter("istio_dns_upstream_failures_total", "Forwarded DNS requests that failed", dns...),
		dnsDuration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "istio_dns_upstream_request_duration_seconds", Help: "Time that forwarded DNS requests took (unstable).",
			Buckets: []float64{0.0005, 0.001, 0.01, 0.1, 1, 5},
		}, dns),
		xdsTerminations: counter("istio_xds_connection_terminations_total", "Ended streams to the controller by reason", "reason"),
		xdsMessages:     counter("istio_xds_message_total", "Messages from the controller by type", "url"),
		xdsBytes:        counter("istio_xds_message_bytes_total", "Bytes of messages from the controller by type", "url"),
		sockets: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "istio_tcp_sockets_open", Help: "Open sockets of connections by reporter (unstable).",
		}, []string{"reporter"}),
		proxies: gauge("workload_manager_active_proxy_count", "Pods being served"),
		pending: gauge("workload_manager_pending_proxy_count", "Pods that cannot be served yet"),
		started: counter("workload_manager_proxies_started_total", "Pods begun to be served").WithLabelValues(),
		stopped: counter("workload_manager_proxies_stopped_total", "Pods ceased to be served").WithLabelValues(),
	}
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "istio_build", Help: "Istio component build info.",
	}, []string{"component", "tag"})
	build.WithLabelValues("ztunnel", or(b.Version, "unknown")).Set(1)
	own := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "ambit_ztunnel_build_info", Help: "Always 1; what is running is in the labels.",
	}, []string{"version", "revision", "go_version"})
	own.WithLabelValues(or(b.Version, "unknown"), or(b.Revision, "unknown"), or(b.GoVersion, "unknown")).Set(1)

	var errs []error
	for _, c := range []prometheus.Collector{
		i.dnsRequests, i.dnsUpstream, i.dnsFailures, i.dnsDuration, i.xdsTerminations, i.xdsMessages, i.xdsBytes,
		i.sockets, i.proxies, i.pending, i.started, i.stopped, build, own,
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), collectors.NewGoCollector(),
	} {
		errs = append(errs, reg.Register(c))
	}
	return i, errors.Join(errs...)
}

// DNSQuery is one DNS request as its labels name it.
type DNSQuery struct {
	// Type is the query type ("A", "AAAA"; "other" for what is rare), Protocol "udp" or "tcp".
	Type, Protocol string
	// Service and Revision are the client's canonical ones; empty is unknown.
	Service, Revision string
}

func (q DNSQuery) labels() []string {
	return []string{q.Type, q.Protocol, or(q.Service, "unknown"), or(q.Revision, "unknown")}
}

// DNSRequest counts a request from an application.
func (i *Instruments) DNSRequest(q DNSQuery) { i.dnsRequests.WithLabelValues(q.labels()...).Inc() }

// DNSUpstream counts a request that was forwarded, how long it took and whether it failed.
func (i *Instruments) DNSUpstream(q DNSQuery, took time.Duration, failed bool) {
	i.dnsUpstream.WithLabelValues(q.labels()...).Inc()
	i.dnsDuration.WithLabelValues(q.labels()...).Observe(took.Seconds())
	if failed {
		i.dnsFailures.WithLabelValues(q.labels()...).Inc()
	}
}

// XDSMessage counts a message of size bytes with resources of a type.
func (i *Instruments) XDSMessage(typeURL string, size int) {
	i.xdsMessages.WithLabelValues(typeURL).Inc()
	i.xdsBytes.WithLabelValues(typeURL).Add(float64(size))
}

// Why a stream to the controller ended, the values that Istio's dashboards know.
const (
	XDSConnectionError = "ConnectionError" // could not connect
	XDSError           = "Error"           // broken off
	XDSReconnect       = "Reconnect"       // asked to go elsewhere
	XDSComplete        = "Complete"        // ended in order
)

// XDSTerminated counts the end of a stream to the controller.
func (i *Instruments) XDSTerminated(reason string) { i.xdsTerminations.WithLabelValues(reason).Inc() }

// Sockets counts a socket opened (1) or closed (-1).
func (i *Instruments) Sockets(r Reporter, delta int) {
	i.sockets.WithLabelValues(r.String()).Add(float64(delta))
}

// ProxyStarted and ProxyStopped count pods coming under service and leaving it.
func (i *Instruments) ProxyStarted() { i.started.Inc(); i.proxies.Inc() }

// ProxyStopped is the reverse of ProxyStarted.
func (i *Instruments) ProxyStopped() { i.stopped.Inc(); i.proxies.Dec() }

// ProxiesPending sets how many pods wait to be served.
func (i *Instruments) ProxiesPending(n int) { i.pending.Set(float64(n)) }
