package validate

import (
	telemetryapi "istio.io/api/telemetry/v1alpha1"
	telemetryv1 "istio.io/client-go/pkg/apis/telemetry/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func (c *check) telemetry(o *telemetryv1.Telemetry) {
	s := &o.Spec
	at := attachment{s.GetSelector(), s.GetTargetRef(), s.GetTargetRefs()}
	c.attached(o, at)
	if !at.targeted() {
		c.info(spec(), "attach it to a waypoint with targetRefs", "node proxies report the same for everybody: it applies to waypoints and gateways")
	}
	for i, t := range s.GetTracing() {
		p := spec("tracing").Index(i)
		c.providers(p, t.GetProviders())
		if v := t.GetRandomSamplingPercentage(); v != nil {
			c.percent(p.Child("randomSamplingPercentage"), v.GetValue())
		}
		for name, tag := range t.GetCustomTags() {
			if name == "" || tag.GetType() == nil {
				c.fail(p.Child("customTags").Key(clip(name)), "", "one of literal, environment, header and formatter is required")
			}
		}
	}
	for i, m := range s.GetMetrics() {
		p := spec("metrics").Index(i)
		c.providers(p, m.GetProviders())
		c.atLeast(p.Child("reportingInterval"), m.GetReportingInterval(), 1)
		for j, o := range m.GetOverrides() {
			for name, tag := range o.GetTagOverrides() {
				p := p.Child("overrides").Index(j).Child("tagOverrides").Key(clip(name))
				remove := tag.GetOperation() == telemetryapi.MetricsOverrides_TagOverride_REMOVE
				if remove == (tag.GetValue() != "") {
					c.fail(p.Child("value"), "", "a value is for UPSERT, which needs one; REMOVE has none")
				}
			}
		}
	}
	for i, a := range s.GetAccessLogging() {
		c.providers(spec("accessLogging").Index(i), a.GetProviders())
	}
}

func (c *check) providers(p *field.Path, list []*telemetryapi.ProviderRef) {
	for i, r := range list {
		if r.GetName() == "" {
			c.fail(p.Child("providers").Index(i).Child("name"), "", "a name is required")
		}
	}
}
