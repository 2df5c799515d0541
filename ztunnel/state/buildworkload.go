package state

import (
	"cmp"
	"slices"
	"strings"
)

// putWorkload adds or replaces a workload. Shared parts are replaced by the Store's own copies.
func (b *builder) putWorkload(w *Workload) {
	w = withoutOwnName(w)
	old, exists := b.workloads.Get(w.UID)
	if exists && old.equal(w) {
		return
	}
	shared, newRefs := b.intern.profile(w.Profile)
	if newRefs != nil {
		b.policies.use(newRefs)
	}
	next := &Workload{
		UID:       w.UID,
		Name:      w.Name,
		Addresses: w.Addresses,
		Profile:   shared,
		Place:     b.intern.place(w.Place),
		Capacity:  w.Capacity,
		Unhealthy: w.Unhealthy,
	}
	if strings.HasSuffix(next.UID, next.Name) { // as for pods: one string is enough
		next.Name = next.UID[len(next.UID)-len(next.Name):]
	}
	if exists {
		b.unindex(old, next)
	}
	b.index(next)
	b.judgeLocal(old, next)
	b.changed = true
}

// withoutOwnName lets bare pods share a profile, which each one's own name in it would prevent.
func withoutOwnName(w *Workload) *Workload {
	if w.Controller == "" || w.Controller != w.Name {
		return w
	}
	p := *w.Profile
	p.Controller, p.Bare = "", true
	c := *w
	c.Profile = &p
	return &c
}

func (b *builder) removeWorkload(uid string) {
	old, ok := b.workloads.Get(uid)
	if !ok {
		return
	}
	b.unindex(old, nil)
	b.workloads.Delete(uid)
	b.judgeLocal(old, nil)
	b.changed = true
}

func (b *builder) local(w *Workload) bool {
	return w != nil && (b.cfg.Node == "" || w.Node == b.cfg.Node)
}

// judgeLocal notes a change that may alter a decision for a workload of this node: it comes, goes, or changes in more
// than address or health.
func (b *builder) judgeLocal(old, next *Workload) {
	was, is := b.local(old), b.local(next)
	if was != is || is && old.Profile != next.Profile {
		b.judge = true
	}
}

func (b *builder) index(w *Workload) {
	b.workloads.Set(w.UID, w)
	if !w.HostNetwork {
		for _, ip := range w.Addresses {
			b.claim(NetworkAddr{w.Network, ip}.key(), w)
		}
	}
	if w.Hostname != "" {
		k := Key{w.Namespace, w.Hostname}
		list, _ := b.byHost.Get(k)
		b.byHost.Set(k, insert(list, w, preference))
	}
	if b.local(w) {
		k := w.localKey()
		list, _ := b.locals.Get(k)
		b.locals.Set(k, insert(list, w, preference))
	}
	for _, m := range w.Services {
		b.moveEndpoint(m.Service, w.UID, w)
	}
}

// unindex takes old out of all indexes but the one by UID, and gives its shared parts back.
func (b *builder) unindex(old, next *Workload) {
	if !old.HostNetwork {
		for _, ip := range old.Addresses {
			b.unclaim(NetworkAddr{old.Network, ip}.key(), old)
		}
	}
	same := func(w *Workload) bool { return w.UID == old.UID }
	if old.Hostname != "" {
		k := Key{old.Namespace, old.Hostname}
		list, _ := b.byHost.Get(k)
		setOrDelete(b.byHost, k, without(list, same))
	}
	if b.local(old) {
		k := old.localKey()
		list, _ := b.locals.Get(k)
		setOrDelete(b.locals, k, without(list, same))
	}
	for _, m := range old.Services {
		b.moveEndpoint(m.Service, old.UID, nil)
	}
	if oldRefs := b.intern.release(old.Profile); oldRefs != nil {
		b.policies.unuse(oldRefs)
	}
	b.intern.releasePlace(old.Place)
}

func (w *Workload) localKey() LocalKey { return LocalKey{w.Namespace, w.Name, w.ServiceAccount} }

// claim makes w one of those who have an address; the best of them is found by it.
func (b *builder) claim(k addrKey, w *Workload) {
	holder, held := b.byAddr.Get(k)
	if !held {
		b.byAddr.Set(k, w)
		return
	}
	list, _ := b.contested.Get(k)
	if len(list) == 0 {
		list = []*Workload{holder}
	}
	if slices.ContainsFunc(list, func(x *Workload) bool { return x.UID == w.UID }) {
		return // an address listed twice
	}
	list = insert(list, w, preference)
	b.contested.Set(k, list)
	b.byAddr.Set(k, list[0])
}

func (b *builder) unclaim(k addrKey, w *Workload) {
	list, _ := b.contested.Get(k)
	if len(list) == 0 {
		if holder, ok := b.byAddr.Get(k); ok && holder.UID == w.UID {
			b.byAddr.Delete(k)
		}
		return
	}
	list = without(list, func(x *Workload) bool { return x.UID == w.UID })
	if len(list) == 0 {
		b.byAddr.Delete(k)
		b.contested.Delete(k)
		return
	}
	b.byAddr.Set(k, list[0])
	if len(list) == 1 {
		b.contested.Delete(k)
		return
	}
	b.contested.Set(k, list)
}

// preference orders workloads that claim the same address or name: pods first, then those that take tunnels, then by
// UID (ztunnel.md 3.3).
func preference(a, b *Workload) int {
	return cmp.Or(
		-cmpBool(strings.Contains(a.UID, "//Pod/"), strings.Contains(b.UID, "//Pod/")),
		-cmpBool(a.Tunnel == TunnelHBONE, b.Tunnel == TunnelHBONE),
		strings.Compare(a.UID, b.UID),
	)
}

func cmpBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	default:
		return -1
	}
}
