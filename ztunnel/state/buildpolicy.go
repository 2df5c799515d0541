package state

import "github.com/ambit-mesh/ambit/ztunnel/state/internal/hamt"

// policyIndex finds policies and keeps the layers; part of the builder. Layers that a change concerns are marked and
// made anew once for each build.
type policyIndex struct {
	byKey      *hamt.Editor[Key, *Policy]
	global     *PolicyLayer
	namespaces *hamt.Editor[string, *PolicyLayer]
	selected   *hamt.Editor[*Key, *PolicyLayer]

	globals  map[Key]*Policy
	scoped   map[string]map[Key]*Policy // by namespace
	refs     map[Key]map[*refsUse]bool  // who names a policy
	dirtyAll bool                       // the global layer
	dirtyNS  map[string]bool            // layers of namespaces
	dirty    map[*refsUse]bool          // layers of reference lists
}

func newPolicyIndex() policyIndex {
	return policyIndex{
		byKey:      hamt.Edit(hamt.Map[Key, *Policy]{}),
		namespaces: hamt.Edit(hamt.Map[string, *PolicyLayer]{}),
		selected:   hamt.Edit(hamt.Map[*Key, *PolicyLayer]{}),
		globals:    map[Key]*Policy{},
		scoped:     map[string]map[Key]*Policy{},
		refs:       map[Key]map[*refsUse]bool{},
		dirtyNS:    map[string]bool{},
		dirty:      map[*refsUse]bool{},
	}
}

func (x *policyIndex) put(p *Policy) {
	x.byKey.Set(p.Key, p)
	x.mark(p)
	switch p.Scope {
	case ScopeGlobal:
		x.globals[p.Key] = p
	case ScopeNamespace:
		if x.scoped[p.Key.Namespace] == nil {
			x.scoped[p.Key.Namespace] = map[Key]*Policy{}
		}
		x.scoped[p.Key.Namespace][p.Key] = p
	}
}

func (x *policyIndex) remove(p *Policy) {
	x.byKey.Delete(p.Key)
	x.mark(p)
	delete(x.globals, p.Key)
	if in := x.scoped[p.Key.Namespace]; in != nil {
		delete(in, p.Key)
		if len(in) == 0 {
			delete(x.scoped, p.Key.Namespace)
		}
	}
}

func (x *policyIndex) mark(p *Policy) {
	switch p.Scope {
	case ScopeGlobal:
		x.dirtyAll = true
	case ScopeNamespace:
		x.dirtyNS[p.Key.Namespace] = true
	}
	for u := range x.refs[p.Key] {
		x.dirty[u] = true
	}
}

// use begins to keep the layer of a reference list, unuse ends it.
func (x *policyIndex) use(u *refsUse) {
	for _, k := range u.list {
		if x.refs[k] == nil {
			x.refs[k] = map[*refsUse]bool{}
		}
		x.refs[k][u] = true
	}
	x.dirty[u] = true
}

func (x *policyIndex) unuse(u *refsUse) {
	for _, k := range u.list {
		delete(x.refs[k], u)
		if len(x.refs[k]) == 0 {
			delete(x.refs, k)
		}
	}
	delete(x.dirty, u)
	x.selected.Delete(&u.list[0])
}

func (x *policyIndex) build() {
	if x.dirtyAll {
		x.global = layerOf(x.globals)
		x.dirtyAll = false
	}
	for ns := range x.dirtyNS {
		if layer := layerOf(x.scoped[ns]); layer != nil {
			x.namespaces.Set(ns, layer)
		} else {
			x.namespaces.Delete(ns)
		}
	}
	clear(x.dirtyNS)
	for u := range x.dirty {
		x.selected.Set(&u.list[0], resolve(u.list, x.byKey.Get))
	}
	clear(x.dirty)
}
