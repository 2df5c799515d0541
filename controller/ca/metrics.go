package ca

import (
	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the service's. Names that Istio has are Istio's.
type Metrics struct {
	requests   prometheus.Counter
	issued     prometheus.Counter
	authFailed prometheus.Counter
	csrFailed  prometheus.Counter
	idFailed   prometheus.Counter
	signFailed *prometheus.CounterVec
	refusals   *prometheus.CounterVec
}

// NewMetrics makes and registers them.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := &Metrics{
		requests:   counter("citadel_server_csr_count", "Certificate requests received."),
		issued:     counter("citadel_server_success_cert_issuance_count", "Certificates issued."),
		authFailed: counter("citadel_server_authentication_failure_count", "Requests whose caller or impersonation was refused."),
		csrFailed:  counter("citadel_server_csr_parsing_err_count", "Certificate requests that were malformed or asked for too much."),
		idFailed:   counter("citadel_server_id_extraction_err_count", "Requests whose identity was malformed."),
		signFailed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "citadel_server_csr_sign_err_count", Help: "Certificates that could not be signed. Not zero: look at the signer.",
		}, []string{"error"}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ambit_controller_certificates_refused_total", Help: "Certificate requests refused, by reason. The log says whose.",
		}, []string{"reason"}),
	}
	reg.MustRegister(m.requests, m.issued, m.authFailed, m.csrFailed, m.idFailed, m.signFailed, m.refusals)
	return m
}

func (m *Metrics) refused(r Reason) {
	m.refusals.WithLabelValues(string(r)).Inc()
	switch r {
	case ReasonMalformed:
		m.idFailed.Inc()
		m.authFailed.Inc()
	case ReasonUnauthenticated, ReasonNotTrusted, ReasonNoNode, ReasonNoPod, ReasonCallerGone, ReasonCallerElsewhere, ReasonTrustDomain, ReasonNotResident:
		m.authFailed.Inc()
	case ReasonBadCSR:
		m.csrFailed.Inc()
	case ReasonBadTTL, ReasonSigning:
		m.signFailed.WithLabelValues(string(r)).Inc()
	}
}
