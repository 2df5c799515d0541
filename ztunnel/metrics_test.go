package ztunnel

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/ambit-mesh/ambit/ztunnel/hbone"
	"github.com/ambit-mesh/ambit/ztunnel/sockets"
	"github.com/ambit-mesh/ambit/ztunnel/state"
)

// Our own metrics have the form that Prometheus asks for, and are told apart from those that have Istio's names.
func TestMetricNames(t *testing.T) {
	m, client, _, dst := pair(t)
	c := m.dial(client, dst)
	greet(t, c)
	reg := m.nodes[0].reg
	registerProcess(reg, "1.27", state.NewStore(state.Config{}))
	registerTunnels(reg, new(hbone.Metrics))
	newXDSMetrics(reg)
	newDNSMetrics(reg)
	sockets.New(sockets.Config{Log: slog.New(slog.DiscardHandler), Metrics: reg})
	problems, err := testutil.GatherAndLint(reg)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "ambit_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	known := []string{"ambit_ztunnel_", "istio_", "workload_manager_", "go_", "process_"}
	seen := map[string]bool{}
	for _, f := range families {
		for _, prefix := range known {
			if strings.HasPrefix(f.GetName(), prefix) {
				seen[f.GetName()] = true
			}
		}
		if !seen[f.GetName()] {
			t.Errorf("metric %s has no known prefix", f.GetName())
		}
	}
	for _, name := range []string{"istio_build", "istio_tcp_connections_opened_total", "workload_manager_active_proxy_count", "process_open_fds"} {
		if !seen[name] {
			t.Errorf("no %s", name)
		}
	}
}
