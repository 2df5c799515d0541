package xds

import "github.com/ambit-mesh/ambit/controller/api/authz"

// A policy of the mesh or of a namespace that gains a selector stops to apply to all there the moment a client takes it, and
// applies to those that name it only once the client has them. So it is the one change of a policy that goes out after the
// workloads: the client enforces it on all for a moment longer. Every other change goes out before them, because it takes nothing
// away from a workload that the policy applies to before and after:
//
//	change                   order                        meanwhile
//	new, selector            policy, workloads            nobody names it
//	mesh, namespace > sel.   workloads, policy            those that name it have it twice
//	sel. > mesh, namespace   policy, workloads            the same
//	rules, same scope        policy                       one or the other
//	other selector           workloads                    one workload at a time, before or after
//	other name               new, workloads, old removed  both
//	removal                  workloads, policy removed    nobody names it
//
// Where one edit gives a policy another selector and other rules, a workload that it selects no more has its new rules until
// it is told: that order protects those that it selects now.

// scoped is what is remembered of a policy's scope. Immutable.
type scoped struct {
	selects bool   // those that name it, and nobody else
	broad   uint64 // sequence number of the first in a row of forms for a mesh or namespace: this one, or the last before narrowed
	narrow  uint64 // that of the first form with a selector after those; 0 if there was none before
}

func scopeOf(p *authz.Authorization) *scoped {
	return &scoped{selects: p.GetScope() == authz.Scope_WORKLOAD_SELECTOR}
}

// follow notes what e, a policy with its sequence number, comes after. A policy that was gone begins anew: the time
// in between, in which it applied to nobody, was its owner's wish.
func (e *entry) follow(old *entry) {
	if e.scoped == nil {
		return
	}
	now := scoped{selects: e.scoped.selects}
	lived := old != nil && !old.gone && old.scoped != nil
	switch {
	case !now.selects && lived && !old.scoped.selects:
		now.broad = old.scoped.broad
	case !now.selects:
		now.broad = e.seq
	case lived && old.scoped.selects:
		now.broad, now.narrow = old.scoped.broad, old.scoped.narrow
	case lived:
		now.broad, now.narrow = old.scoped.broad, e.seq
	}
	e.scoped = &now
}

// postpones reports that e has to wait for the workloads, as the client may hold it in a form for all of a mesh or namespace.
func (sub *subscription) postpones(e *entry) bool {
	if e.scoped == nil || !e.scoped.selects {
		delete(sub.narrowed, e.name)
		return false
	}
	if !sub.narrowed[e.name] && (e.scoped.broad > sub.upserts || e.scoped.narrow <= sub.upserts) {
		return false
	}
	sub.postpone(e)
	return true
}

func (sub *subscription) postpone(e *entry) {
	if sub.narrowed == nil {
		sub.narrowed = map[string]bool{}
	}
	sub.narrowed[e.name] = true
}

// postponed gives r what waited and has not changed since it was looked at last; what has is found with the other changes.
func (sub *subscription) postponed(k *kind, r *response) {
	for name := range sub.narrowed {
		if e := k.entries[name]; e != nil && !e.gone && e.seq <= sub.upserts {
			r.add(e.frame)
		}
	}
	sub.narrowed = nil
}
