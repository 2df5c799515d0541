package state

import (
	"hash/maphash"
	"slices"
)

func (m Membership) equal(o Membership) bool {
	return m.Service == o.Service && slices.Equal(m.Ports, o.Ports)
}

func (g *Gateway) equal(o *Gateway) bool {
	if g == nil || o == nil {
		return g == o
	}
	return *g == *o
}

// equal compares by value. Fields are listed one by one: reflection is too slow for a hundred thousand.
func (p *Profile) equal(o *Profile) bool {
	return p.Namespace == o.Namespace && p.TrustDomain == o.TrustDomain && p.ServiceAccount == o.ServiceAccount &&
		p.Network == o.Network && p.ClusterID == o.ClusterID && p.CanonicalName == o.CanonicalName &&
		p.CanonicalRevision == o.CanonicalRevision && p.Controller == o.Controller && p.Bare == o.Bare && p.Kind == o.Kind &&
		p.Tunnel == o.Tunnel && p.HostNetwork == o.HostNetwork && p.NativeTunnel == o.NativeTunnel &&
		p.AppTunnel == o.AppTunnel && p.Hostname == o.Hostname && p.Waypoint.equal(o.Waypoint) &&
		p.Gateway.equal(o.Gateway) && slices.Equal(p.Policies, o.Policies) &&
		slices.EqualFunc(p.Services, o.Services, Membership.equal)
}

func (w *Workload) equal(o *Workload) bool {
	return w.UID == o.UID && w.Name == o.Name && slices.Equal(w.Addresses, o.Addresses) && w.Capacity == o.Capacity &&
		w.Unhealthy == o.Unhealthy && *w.Place == *o.Place && (w.Profile == o.Profile || w.Profile.equal(o.Profile))
}

// hash is of the fields that tell profiles apart in practice.
func (in *interner) hash(p *Profile) uint64 {
	var h maphash.Hash
	h.SetSeed(in.seed)
	for _, s := range []string{
		p.Namespace, p.ServiceAccount, p.Controller, p.CanonicalName, p.CanonicalRevision, p.Network, p.ClusterID,
		p.Hostname,
	} {
		h.WriteString(s)
		h.WriteByte(0)
	}
	for _, k := range p.Policies {
		h.WriteString(k.Name)
		h.WriteByte(0)
	}
	for _, m := range p.Services {
		h.WriteString(m.Service.Name)
		h.WriteByte(0)
	}
	return h.Sum64()
}
