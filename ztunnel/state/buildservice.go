package state

import "github.com/ambit-mesh/ambit/ztunnel/state/internal/hamt"

// serviceIndex finds services; part of the builder.
type serviceIndex struct {
	byKey    *hamt.Editor[Key, *Service]
	named    *hamt.Editor[string, []*Service]
	byVIP    *hamt.Editor[addrKey, []*Service]
	byCIDR   *hamt.Editor[cidrKey, []*Service]
	cidrBits *hamt.Editor[cidrBits, int]
}

func newServiceIndex() serviceIndex {
	return serviceIndex{
		byKey:    hamt.Edit(hamt.Map[Key, *Service]{}),
		named:    hamt.Edit(hamt.Map[string, []*Service]{}),
		byVIP:    hamt.Edit(hamt.Map[addrKey, []*Service]{}),
		byCIDR:   hamt.Edit(hamt.Map[cidrKey, []*Service]{}),
		cidrBits: hamt.Edit(hamt.Map[cidrBits, int]{}),
	}
}

func byServiceKey(a, b *Service) int { return a.Key().Compare(b.Key()) }

func (x *serviceIndex) put(s *Service) {
	x.byKey.Set(s.Key(), s)
	list, _ := x.named.Get(s.Hostname)
	x.named.Set(s.Hostname, insert(list, s, byServiceKey))
	for _, vip := range s.VIPs {
		list, _ := x.byVIP.Get(vip.key())
		x.byVIP.Set(vip.key(), insert(list, s, byServiceKey))
	}
	for _, c := range s.CIDRs {
		list, _ := x.byCIDR.Get(c.key())
		x.byCIDR.Set(c.key(), insert(list, s, byServiceKey))
		n, _ := x.cidrBits.Get(c.key().lengths())
		x.cidrBits.Set(c.key().lengths(), n+1)
	}
}

func (x *serviceIndex) remove(s *Service) {
	same := func(o *Service) bool { return o == s }
	x.byKey.Delete(s.Key())
	list, _ := x.named.Get(s.Hostname)
	setOrDelete(x.named, s.Hostname, without(list, same))
	for _, vip := range s.VIPs {
		list, _ := x.byVIP.Get(vip.key())
		setOrDelete(x.byVIP, vip.key(), without(list, same))
	}
	for _, c := range s.CIDRs {
		list, _ := x.byCIDR.Get(c.key())
		setOrDelete(x.byCIDR, c.key(), without(list, same))
		if n, _ := x.cidrBits.Get(c.key().lengths()); n > 1 {
			x.cidrBits.Set(c.key().lengths(), n-1)
		} else {
			x.cidrBits.Delete(c.key().lengths())
		}
	}
}

// setOrDelete keeps no empty lists, so that an index depends only on what there is.
func setOrDelete[K comparable, T any](e *hamt.Editor[K, []T], k K, list []T) {
	if len(list) == 0 {
		e.Delete(k)
		return
	}
	e.Set(k, list)
}
