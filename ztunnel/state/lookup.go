package state

import (
	"net/netip"
	"unique"
)

// cidrKey is a range of virtual addresses; cidrBits the lengths in use, so that a lookup tries no others.
type cidrKey struct {
	network unique.Handle[string]
	prefix  netip.Prefix
}

type cidrBits struct {
	network unique.Handle[string]
	v4      bool
	bits    uint8
}

func (p NetworkPrefix) key() cidrKey {
	return cidrKey{network: unique.Make(p.Network), prefix: p.Prefix}
}

func (k cidrKey) lengths() cidrBits {
	return cidrBits{network: k.network, v4: k.prefix.Addr().Is4(), bits: uint8(k.prefix.Bits())}
}

// Service finds a service by namespace and hostname, or nil.
func (s *Snapshot) Service(k Key) *Service {
	svc, _ := s.services.Get(k)
	return svc
}

// ServicesNamed lists the services of a hostname, sorted by namespace. Do not modify it.
func (s *Snapshot) ServicesNamed(hostname string) []*Service {
	list, _ := s.named.Get(hostname)
	return list
}

// ServiceNamed finds what a client of a namespace means by a hostname, or nil: a service of its own namespace, else the
// canonical one, else the first, of those it may see.
func (s *Snapshot) ServiceNamed(hostname, client string) *Service {
	return preferred(s.ServicesNamed(hostname), client)
}

// ServiceAt finds what a client of a namespace means by a virtual address, or nil. An exact address goes before ranges;
// among ranges the client's own namespace, then the longest, then the canonical one (ztunnel.md 3.3).
func (s *Snapshot) ServiceAt(a NetworkAddr, client string) *Service {
	list, _ := s.byVIP.Get(a.key())
	if svc := preferred(list, client); svc != nil {
		return svc
	}
	return s.serviceInRange(a, client)
}

func (s *Snapshot) serviceInRange(a NetworkAddr, client string) *Service {
	if s.byCIDR.Len() == 0 {
		return nil
	}
	network, ip := unique.Make(a.Network), a.IP.Unmap()
	var best *Service
	for bits := ip.BitLen(); bits >= 0; bits-- {
		if _, used := s.cidrBits.Get(cidrBits{network: network, v4: ip.Is4(), bits: uint8(bits)}); !used {
			continue
		}
		prefix, _ := ip.Prefix(bits)
		list, _ := s.byCIDR.Get(cidrKey{network: network, prefix: prefix})
		svc := preferred(list, client)
		switch {
		case svc == nil:
		case svc.Namespace == client:
			return svc
		case best == nil: // a longer range than any that follows
			best = svc
		}
	}
	return best
}

// preferred picks from services that claim the same name or address.
func preferred(list []*Service, client string) *Service {
	var best *Service
	for _, svc := range list {
		switch {
		case !svc.VisibleTo(client):
		case svc.Namespace == client:
			return svc
		case best == nil, svc.Canonical && !best.Canonical:
			best = svc
		}
	}
	return best
}

// Endpoints are the workloads that say they belong to a service, whether the service is known or not; nil if none do.
func (s *Snapshot) Endpoints(service Key) *Endpoints {
	e, _ := s.endpoints.Get(service)
	return e
}

// Policy finds a policy, or nil.
func (s *Snapshot) Policy(k Key) *Policy {
	p, _ := s.policies.Get(k)
	return p
}

// PoliciesOf are the policies that apply to a workload of this snapshot.
func (s *Snapshot) PoliciesOf(w *Workload) PolicySet {
	set := PolicySet{Global: s.global}
	set.Namespace, _ = s.namespaces.Get(w.Namespace)
	if len(w.Profile.Policies) > 0 {
		var ok bool
		if set.Selected, ok = s.selected.Get(&w.Profile.Policies[0]); !ok {
			// Not a workload of this snapshot: resolve its references here.
			set.Selected = resolve(w.Profile.Policies, s.policies.Get)
		}
	}
	return set
}
