package telemetry

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// denials counts what was not allowed or not possible, by reason. The only other label is the policy that denied; there
// are as many as administrators have written, up to a limit.
type denials struct {
	denied   *prometheus.CounterVec
	refused  *prometheus.CounterVec
	rejected *prometheus.CounterVec

	mu       sync.Mutex
	max      int
	policies map[string]struct{}
}

func newDenials(max int) *denials {
	return &denials{
		max: max, policies: map[string]struct{}{},
		denied: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ambit_ztunnel_connections_denied_total",
			Help: "Connections that policy denied, by reason and policy. The access log has a line for each; ambit why explains it.",
		}, []string{"reason", "policy"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ambit_ztunnel_connections_refused_total",
			Help: "Connections for which there was no way to the destination, by reason. If it grows, look at the endpoints and waypoints it names.",
		}, []string{"reason"}),
		rejected: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ambit_ztunnel_connections_rejected_total",
			Help: "Connections ended before it was known whose they are, by reason. If it grows, peers are broken or limits too low.",
		}, []string{"reason"}),
	}
}

func (d *denials) collectors() []prometheus.Collector {
	return []prometheus.Collector{d.denied, d.refused, d.rejected}
}

func (d *denials) count(o Outcome) {
	switch {
	case o.Flag == FlagDeny:
		d.denied.WithLabelValues(o.Reason, d.policy(o.Policy.String())).Inc()
	case o.Refused:
		d.refused.WithLabelValues(o.Reason).Inc()
	}
}

func (d *denials) reject(why string) { d.rejected.WithLabelValues(why).Inc() }

// policy is the label for a policy's name.
func (d *denials) policy(name string) string {
	if name == "" {
		return "none"
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, known := d.policies[name]; !known {
		if len(d.policies) >= d.max {
			return overflowLabel
		}
		d.policies[name] = struct{}{}
	}
	return name
}
