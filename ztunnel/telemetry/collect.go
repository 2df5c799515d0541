package telemetry

import (
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"
)

// labelNames are Istio's traffic labels in Istio's order.
var labelNames = []string{
	"reporter",
	"source_workload", "source_canonical_service", "source_canonical_revision", "source_workload_namespace",
	"source_principal", "source_app", "source_version", "source_cluster",
	"destination_service", "destination_service_namespace", "destination_service_name",
	"destination_workload", "destination_canonical_service", "destination_canonical_revision",
	"destination_workload_namespace", "destination_principal", "destination_app", "destination_version",
	"destination_cluster",
	"request_protocol", "response_flags", "connection_security_policy",
	"source_region", "source_zone", "destination_region", "destination_zone",
}

// labelValues are a series' labels in the order of labelNames.
func labelValues(k *key, flag Flag) []string {
	security := "unknown"
	if k.Secure {
		security = "mutual_tls"
	}
	s, d := &k.Source, &k.Destination
	values := []string{
		k.Reporter.String(),
		s.Workload, s.CanonicalService, s.CanonicalRevision, s.Namespace,
		s.Principal.String(), s.App, s.CanonicalRevision, s.Cluster,
		k.Service.Host, k.Service.Namespace, k.Service.Name,
		d.Workload, d.CanonicalService, d.CanonicalRevision,
		d.Namespace, d.Principal.String(), d.App, d.CanonicalRevision,
		d.Cluster,
		"tcp", flag.String(), security,
		s.Region, s.Zone, d.Region, d.Zone,
	}
	for i, v := range values {
		if v == "" {
			values[i] = "unknown"
		}
		// A label must be UTF-8, and baggage comes from the network.
		values[i] = strings.ToValidUTF8(values[i], "\uFFFD")
	}
	return values
}

// labelOrder sorts labelNames, as the exposition wants pairs sorted by name; flagPlace is response_flags in that order.
var labelOrder, flagPlace = func() ([]int, int) {
	order := make([]int, len(labelNames))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return strings.Compare(labelNames[a], labelNames[b]) })
	return order, slices.IndexFunc(order, func(i int) bool { return labelNames[i] == "response_flags" })
}()

func labelPairs(k *key) []*dto.LabelPair {
	values := labelValues(k, FlagNone)
	slab := make([]dto.LabelPair, len(values))
	pairs := make([]*dto.LabelPair, len(values))
	for to, from := range labelOrder {
		slab[to].Name, slab[to].Value = &labelNames[from], &values[from]
		pairs[to] = &slab[to]
	}
	return pairs
}

var (
	descOpened   = trafficDesc("connections_opened", "The total number of TCP connections opened.")
	descClosed   = trafficDesc("connections_closed", "The total number of TCP connections closed.")
	descFailed   = trafficDesc("connections_failed", "The total number of TCP connections that failed, by response_flags (unstable).")
	descSent     = trafficDesc("sent_bytes", "The total number of bytes sent in response, on TCP connections.")
	descReceived = trafficDesc("received_bytes", "The total number of bytes received in requests, on TCP connections.")
	descSeries   = prometheus.NewDesc("ambit_ztunnel_traffic_series",
		"Label combinations of the istio_tcp metrics. At the limit, further ones count as overflow.", nil, nil)
	descOverflow = prometheus.NewDesc("ambit_ztunnel_traffic_series_overflow_total",
		"Connections counted in the overflow series. If it grows, raise the limit of series.", nil, nil)
	descExpired = prometheus.NewDesc("ambit_ztunnel_traffic_series_expired_total",
		"Label combinations forgotten because no connection used them for a while.", nil, nil)
)

func trafficDesc(what, help string) *prometheus.Desc {
	return prometheus.NewDesc("istio_tcp_"+what+"_total", help, labelNames, nil)
}

// Describe implements prometheus.Collector.
func (t *table) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descOpened, descClosed, descFailed, descSent, descReceived, descSeries, descOverflow, descExpired,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector. It forgets stale series and counts the bytes of live connections.
func (t *table) Collect(ch chan<- prometheus.Metric) {
	all := t.list()
	for _, s := range all {
		n, pairs := s.totals(), labelPairs(&s.key)
		ch <- counter{descOpened, pairs, n.opened}
		ch <- counter{descClosed, pairs, n.closed}
		ch <- counter{descSent, pairs, n.response}
		ch <- counter{descReceived, pairs, n.request}
		for flag, failed := range n.failed {
			if failed == 0 {
				continue
			}
			flagged := slices.Clone(pairs)
			flagged[flagPlace] = &dto.LabelPair{Name: pairs[flagPlace].Name, Value: proto.String(Flag(flag).String())}
			ch <- counter{descFailed, flagged, failed}
		}
	}
	ch <- prometheus.MustNewConstMetric(descSeries, prometheus.GaugeValue, float64(len(all)))
	ch <- prometheus.MustNewConstMetric(descOverflow, prometheus.CounterValue, float64(t.overflowed.Load()))
	ch <- prometheus.MustNewConstMetric(descExpired, prometheus.CounterValue, float64(t.expired.Load()))
}

// counter is one sample. The metrics of a series share their label pairs.
type counter struct {
	desc   *prometheus.Desc
	labels []*dto.LabelPair
	value  uint64
}

// Desc implements prometheus.Metric.
func (c counter) Desc() *prometheus.Desc { return c.desc }

// Write implements prometheus.Metric.
func (c counter) Write(m *dto.Metric) error {
	m.Label = c.labels
	m.Counter = &dto.Counter{Value: proto.Float64(float64(c.value))}
	return nil
}
