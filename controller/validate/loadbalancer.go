package validate

import (
	"maps"
	"slices"

	networkingapi "istio.io/api/networking/v1alpha3"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func (c *check) loadBalancer(p *field.Path, l *networkingapi.LoadBalancerSettings) {
	if l == nil {
		return
	}
	if h := l.GetConsistentHash(); h != nil {
		at := p.Child("consistentHash")
		if h.GetHashKey() == nil {
			c.fail(at, "", "one of httpHeaderName, httpCookie, useSourceIp and httpQueryParameterName is required")
		}
		if k, ok := h.GetHashKey().(*networkingapi.LoadBalancerSettings_ConsistentHashLB_HttpHeaderName); ok {
			c.headerName(at.Child("httpHeaderName"), k.HttpHeaderName)
		}
		if k := h.GetHttpCookie(); k != nil && k.GetName() == "" {
			c.fail(at.Child("httpCookie", "name"), "", "a name is required")
		}
		if n := h.GetMaglev().GetTableSize(); n > 5000011 {
			c.fail(at.Child("maglev", "tableSize"), "", "%d is above the limit 5000011", n)
		}
	}
	if w := l.GetWarmup(); w != nil {
		at := p.Child("warmup")
		if w.GetDuration() == nil {
			c.fail(at.Child("duration"), "", "a duration is required")
		}
		c.atLeast(at.Child("duration"), w.GetDuration(), 1)
		c.percent(at.Child("minimumPercent"), w.GetMinimumPercent().GetValue())
		if a := w.GetAggression(); a != nil && !(a.GetValue() > 0) {
			c.fail(at.Child("aggression"), "", "want more than 0")
		}
		if s, ok := l.GetLbPolicy().(*networkingapi.LoadBalancerSettings_Simple); ok && s.Simple != networkingapi.LoadBalancerSettings_ROUND_ROBIN && s.Simple != networkingapi.LoadBalancerSettings_LEAST_REQUEST && s.Simple != networkingapi.LoadBalancerSettings_UNSPECIFIED {
			c.fail(at, "", "warm-up goes with ROUND_ROBIN and LEAST_REQUEST only")
		}
	}
	c.locality(p.Child("localityLbSetting"), l.GetLocalityLbSetting())
}

func (c *check) locality(p *field.Path, s *networkingapi.LocalityLoadBalancerSetting) {
	if len(s.GetDistribute()) > 0 && len(s.GetFailover())+len(s.GetFailoverPriority()) > 0 {
		c.fail(p.Child("distribute"), "keep one of them", "distribute excludes failover and failoverPriority")
	}
	from := map[string]bool{}
	for i, d := range s.GetDistribute() {
		at := p.Child("distribute").Index(i)
		if from[d.GetFrom()] {
			c.fail(at.Child("from"), "", "%q is there twice", clip(d.GetFrom()))
		}
		from[d.GetFrom()] = true
		sum := uint64(0)
		for _, to := range slices.Sorted(maps.Keys(d.GetTo())) {
			if d.GetTo()[to] == 0 {
				c.fail(at.Child("to").Key(clip(to)), "leave it out", "weight is 0")
			}
			sum += uint64(d.GetTo()[to])
		}
		if sum != 100 {
			c.fail(at.Child("to"), "", "weights add up to %d: want 100", sum)
		}
	}
	for i, f := range s.GetFailover() {
		if f.GetFrom() == f.GetTo() {
			c.fail(p.Child("failover").Index(i), "", "fails over from %q to itself", clip(f.GetFrom()))
		}
	}
}
