package cert

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the store's own. Identities are not labels: the admin dump names them.
type metrics struct {
	fetches  *prometheus.CounterVec
	duration prometheus.Histogram
	refused  prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, s *Store) (*metrics, error) {
	m := &metrics{
		fetches: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ambit_ztunnel_certificate_fetches_total",
			Help: "Requests to the CA by outcome. If errors grow, the log names the identity and the CA's answer.",
		}, []string{"outcome"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "ambit_ztunnel_certificate_fetch_duration_seconds",
			Help:    "Time to make a key and get it signed. If it grows, the CA is slow or far.",
			Buckets: []float64{.005, .02, .1, .5, 2, 10},
		}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ambit_ztunnel_certificate_identities_refused_total",
			Help: "Identities beyond the limit. It must stay 0; if not, something asks in the name of workloads not on this node.",
		}),
	}
	if reg == nil {
		return m, nil
	}
	gauges := []prometheus.Collector{
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "ambit_ztunnel_certificate_identities",
			Help: "Identities of this node that the certificate store keeps.",
		}, func() float64 { return s.count(func(*entry, time.Time) bool { return true }) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "ambit_ztunnel_certificate_identities_unavailable",
			Help: "Identities without a valid certificate: their workloads have no tunnels. Look at the certificates in the config dump.",
		}, func() float64 { return s.count(func(e *entry, now time.Time) bool { return !e.validLocked(now) }) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "ambit_ztunnel_certificate_earliest_expiry_timestamp_seconds",
			Help: "When the first of the certificates expires. It must stay ahead of now by about half a lifetime; 0 without any.",
		}, s.earliestExpiry),
	}
	var errs []error
	for _, c := range append(gauges, m.fetches, m.duration, m.refused) {
		errs = append(errs, reg.Register(c))
	}
	return m, errors.Join(errs...)
}

func (m *metrics) fetched(took time.Duration, err error) {
	outcome := "ok"
	if err != nil {
		outcome = "error"
	}
	m.fetches.WithLabelValues(outcome).Inc()
	m.duration.Observe(took.Seconds())
}

func (s *Store) count(match func(*entry, time.Time) bool) (n float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for _, e := range s.entries {
		if match(e, now) {
			n++
		}
	}
	return n
}

func (s *Store) earliestExpiry() float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	var first time.Time
	for _, e := range s.entries {
		if e.cert != nil && (first.IsZero() || e.cert.NotAfter().Before(first)) {
			first = e.cert.NotAfter()
		}
	}
	if first.IsZero() {
		return 0
	}
	return float64(first.Unix())
}
