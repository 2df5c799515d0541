package ca

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// AuthorityMetrics are those of an authority that this process signs with.
type AuthorityMetrics struct {
	reloads prometheus.Counter
	phases  *prometheus.GaugeVec
}

// NewAuthorityMetrics makes and registers them.
func NewAuthorityMetrics(reg prometheus.Registerer) *AuthorityMetrics {
	m := &AuthorityMetrics{
		reloads: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ambit_controller_ca_reload_errors_total",
			Help: "Times that a changed authority could not be read, stored or used, and the one before went on signing. Rising: see the log and repair the files or the Secret.",
		}),
		phases: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "ambit_controller_ca_rotation_phase",
			Help: "1 for the phase in which the self-signed root's rotation is. Replicas that differ for long: one cannot read the store.",
		}, []string{"phase"}),
	}
	reg.MustRegister(m.reloads, m.phases)
	return m
}

func (m *AuthorityMetrics) failed() { m.reloads.Inc() }

func (m *AuthorityMetrics) phase(now Phase) {
	for _, p := range []Phase{Stable, Distributing, Switched} {
		v := 0.0
		if p == now {
			v = 1
		}
		m.phases.WithLabelValues(p.String()).Set(v)
	}
}

// RegisterExpiry registers Istio's metrics of when the root and the signing chain end. expiry is a signer's; an external
// signer has none.
func RegisterExpiry(reg prometheus.Registerer, expiry func() (root, chain time.Time), now func() time.Time) {
	gauge := func(name, help string, value func(root, chain time.Time) float64) {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return value(expiry()) }))
	}
	gauge("citadel_server_root_cert_expiry_timestamp", "When the root of the signing chain ends, in Unix seconds.",
		func(root, _ time.Time) float64 { return float64(root.Unix()) })
	gauge("citadel_server_root_cert_expiry_seconds", "Seconds until the root of the signing chain ends. Below a month: replace it, or see why the leader does not.",
		func(root, _ time.Time) float64 { return root.Sub(now()).Seconds() })
	gauge("citadel_server_cert_chain_expiry_timestamp", "When the first certificate of the signing chain ends, in Unix seconds.",
		func(_, chain time.Time) float64 { return float64(chain.Unix()) })
	gauge("citadel_server_cert_chain_expiry_seconds", "Seconds until the first certificate of the signing chain ends; no certificate lives longer. Below a month: replace it.",
		func(_, chain time.Time) float64 { return chain.Sub(now()).Seconds() })
}
