package mesh

import (
	"context"
	"fmt"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/ambit-mesh/ambit/test/netlab"
)

// Metrics is what a ztunnel's metrics endpoint said at one moment.
type Metrics map[string]*dto.MetricFamily

// Metrics asks the ztunnel of a node.
func (m *Mesh) Metrics(ctx context.Context, node string) (Metrics, error) {
	text, err := m.get(ctx, ZtunnelPod(node), "http://127.0.0.1:15020/metrics")
	if err != nil {
		return nil, fmt.Errorf("metrics of the ztunnel on %s: %w", node, err)
	}
	families, err := ParseMetrics(text)
	if err != nil {
		return nil, fmt.Errorf("metrics of the ztunnel on %s: %w", node, err)
	}
	return families, nil
}

// ParseMetrics reads what a metrics endpoint said, in the text format.
func ParseMetrics(text string) (Metrics, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	return parser.TextToMetricFamilies(strings.NewReader(text))
}

// Sum adds up the counters of a family whose labels have the given values. A name matches with and without "_total".
func (m Metrics) Sum(name string, labels map[string]string) float64 {
	var sum float64
	for _, full := range []string{name, name + "_total"} {
		for _, metric := range m[full].GetMetric() {
			if matches(metric, labels) {
				sum += metric.GetCounter().GetValue() + metric.GetGauge().GetValue() + metric.GetUntyped().GetValue()
			}
		}
	}
	return sum
}

func matches(metric *dto.Metric, want map[string]string) bool {
	found := 0
	for _, pair := range metric.GetLabel() {
		if value, asked := want[pair.GetName()]; asked {
			if value != pair.GetValue() {
				return false
			}
			found++
		}
	}
	return found == len(want)
}

// get fetches a URL from inside a pod.
func (m *Mesh) get(ctx context.Context, pod, url string) (string, error) {
	out, err := m.lab.Exec(ctx, netlab.Spec{Pod: pod, Argv: []string{"labprog", "get", url}})
	if err == nil {
		err = out.Err()
	}
	return out.Stdout, err
}

// Admin fetches a path of a ztunnel's admin endpoint.
func (m *Mesh) Admin(ctx context.Context, node, path string) (string, error) {
	return m.get(ctx, ZtunnelPod(node), "http://127.0.0.1:15000"+path)
}
