package ztunnel

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/ambit-mesh/ambit/controller/client"
	"github.com/ambit-mesh/ambit/ztunnel/hbone"
	"github.com/ambit-mesh/ambit/ztunnel/state"
)

// registerProcess registers what describes the process and what it knows.
func registerProcess(reg prometheus.Registerer, version string, store *state.Store) {
	if version == "" {
		version = "unknown"
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "istio_build", Help: "Istio component build info.",
		ConstLabels: prometheus.Labels{"component": "ztunnel", "tag": version},
	})
	build.Set(1)
	reg.MustRegister(build, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for name, count := range map[string]func(state.Size) int{
		"workloads": func(s state.Size) int { return s.Workloads },
		"services":  func(s state.Size) int { return s.Services },
		"policies":  func(s state.Size) int { return s.Policies },
	} {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "ambit_ztunnel_known_" + name,
			Help: "Size of the snapshot in force: " + name + ". Differs from the cluster's: look at the xDS connection.",
		}, func() float64 { return float64(count(store.Load().Size())) }))
	}
	reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "ambit_ztunnel_snapshot_version", Help: "Version of the snapshot in force. Stands still while the cluster changes: look at the xDS connection.",
	}, func() float64 { return float64(store.Load().Version()) }))
}

// registerTunnels registers the HBONE engine's counts.
func registerTunnels(reg prometheus.Registerer, m *hbone.Metrics) {
	gauge := func(name, help string, v *atomic.Int64) {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "ambit_ztunnel_hbone_" + name, Help: help},
			func() float64 { return float64(v.Load()) }))
	}
	counter := func(name, help string, v *atomic.Int64) {
		reg.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "ambit_ztunnel_hbone_" + name + "_total", Help: help},
			func() float64 { return float64(v.Load()) }))
	}
	gauge("tunnels", "Open tunnel connections, both roles.", &m.ConnsOpen)
	gauge("streams", "Open streams, both roles.", &m.StreamsOpen)
	gauge("queued_bytes", "Bytes that wait for applications which read slowly. Grows: some application does not read.", &m.QueuedBytes)
	gauge("handshakes", "TLS handshakes in progress. Stays high: peers connect and say nothing.", &m.HandshakesPending)
	counter("tunnels_opened", "Tunnel connections opened, both roles.", &m.ConnsOpened)
	counter("streams_opened", "Streams opened, both roles.", &m.StreamsOpened)
	counter("streams_refused", "Streams refused: over the limit, or on a tunnel that drains.", &m.StreamsRefused)
	counter("streams_malformed", "Requests that were no CONNECT we can read. Rises: a peer is broken or hostile.", &m.StreamsRejected)
	counter("resets_sent", "Streams reset by us.", &m.ResetsSent)
	counter("resets_received", "Streams reset by peers.", &m.ResetsReceived)
	counter("ping_timeouts", "Tunnels ended because the peer no longer answered.", &m.PingTimeouts)
	counter("settings_timeouts", "Tunnels ended because the peer did not begin.", &m.SettingsTimeouts)
	counter("stalled_writes", "Tunnels ended because the peer did not read.", &m.StalledWrites)
	counter("floods", "Tunnels ended because the peer flooded us with frames.", &m.Floods)
	counter("protocol_errors", "Tunnels ended because the peer broke HTTP/2.", &m.ProtocolErrors)
	counter("slow_reads", "Times an application fell behind and bytes were queued.", &m.SlowReads)
	counter("handshakes_failed", "TLS handshakes that failed or timed out.", &m.HandshakesFailed)
	counter("handshakes_refused", "Connections refused because too many handshakes were in progress.", &m.HandshakesRefused)
	counter("pool_dials", "Tunnels that pools began to open.", &m.PoolDials)
	counter("pool_dial_errors", "Tunnels that could not be opened.", &m.PoolDialErrors)
	counter("pool_hits", "Streams opened on a tunnel that was there.", &m.PoolHits)
	counter("pool_waits", "Streams that waited for a tunnel.", &m.PoolWaits)
	counter("pool_limited", "Streams refused because no further tunnel was allowed. Rises: the limits are too low.", &m.PoolLimited)
	counter("pool_resent", "CONNECTs sent again after a GOAWAY.", &m.PoolResent)
	counter("pool_retired", "Tunnels retired: idle, too old, or made with an older certificate.", &m.PoolEvicted)
}

// xdsMetrics counts the control plane's stream with Istio's names.
type xdsMetrics struct {
	ends            *prometheus.CounterVec
	messages, bytes *prometheus.CounterVec
	rejected        *prometheus.CounterVec
	connected       prometheus.Gauge
}

func newXDSMetrics(reg prometheus.Registerer) *xdsMetrics {
	m := &xdsMetrics{
		ends: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "istio_xds_connection_terminations_total", Help: "Streams to the control plane that ended (unstable).",
		}, []string{"reason"}),
		messages: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "istio_xds_message_total", Help: "Responses received from the control plane (unstable).",
		}, []string{"url"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "istio_xds_message_bytes_total", Help: "Bytes of responses received from the control plane (unstable).",
		}, []string{"url"}),
		rejected: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ambit_ztunnel_xds_rejected_resources_total",
			Help: "Resources of the control plane that were refused; what was accepted before stays in force. Rises: the log says which and why.",
		}, []string{"url"}),
		connected: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "ambit_ztunnel_xds_connected", Help: "1 while the control plane's stream is up. At 0 the last configuration stays in force.",
		}),
	}
	reg.MustRegister(m.ends, m.messages, m.bytes, m.rejected, m.connected)
	return m
}

// Message implements client.Metrics, as do the others.
func (m *xdsMetrics) Message(url string, bytes int) {
	m.messages.WithLabelValues(url).Inc()
	m.bytes.WithLabelValues(url).Add(float64(bytes))
}

// Rejected counts refused resources.
func (m *xdsMetrics) Rejected(url string, n int) { m.rejected.WithLabelValues(url).Add(float64(n)) }

// Terminated counts a stream's end.
func (m *xdsMetrics) Terminated(why client.Termination) { m.ends.WithLabelValues(string(why)).Inc() }

// Connected says whether a stream is up.
func (m *xdsMetrics) Connected(up bool) {
	m.connected.Set(0)
	if up {
		m.connected.Set(1)
	}
}
