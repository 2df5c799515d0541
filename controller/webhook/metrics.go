package webhook

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	admissionv1 "k8s.io/api/admission/v1"
)

// metrics have Istio's names and labels.
type metrics struct {
	passed, failed, errors *prometheus.CounterVec
	warnings               prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	labels := []string{"group", "version", "resource"}
	m := &metrics{
		passed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "galley_validation_passed", Help: "Objects admitted, by resource.",
		}, labels),
		failed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "galley_validation_failed", Help: "Objects refused, by resource. The log names each with its reason.",
		}, append(labels, "reason")),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "galley_validation_http_error", Help: "Reviews that could not be answered, by HTTP status. failurePolicy decided instead: see the log.",
		}, []string{"status"}),
		warnings: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ambit_controller_admission_warnings_total", Help: "Warnings given with reviews, whether admitted or refused.",
		}),
	}
	reg.MustRegister(m.passed, m.failed, m.errors, m.warnings)
	return m
}

func (m *metrics) count(req *admissionv1.AdmissionRequest, resp *admissionv1.AdmissionResponse) {
	m.warnings.Add(float64(len(resp.Warnings)))
	at := []string{known(req.Resource.Group, groups), known(req.Resource.Version, versions), known(req.Resource.Resource, resources)}
	if resp.Allowed {
		m.passed.WithLabelValues(at...).Inc()
		return
	}
	m.failed.WithLabelValues(append(at, "invalid_resource")...).Inc()
}

// What labels may hold: anybody who reaches the port can send any words.
var (
	groups    = []string{"", "security.istio.io", "networking.istio.io", "telemetry.istio.io", "extensions.istio.io", "gateway.networking.k8s.io"}
	versions  = []string{"v1", "v1beta1", "v1alpha3", "v1alpha2", "v1alpha1"}
	resources = []string{
		"namespaces", "services", "pods", "authorizationpolicies", "peerauthentications", "requestauthentications", "serviceentries",
		"workloadentries", "workloadgroups", "virtualservices", "destinationrules", "gateways", "sidecars", "envoyfilters", "proxyconfigs",
		"telemetries", "wasmplugins", "httproutes", "grpcroutes",
	}
)

func known(word string, words []string) string {
	if slices.Contains(words, word) {
		return word
	}
	return "other"
}
