package state

import (
	"reflect"
	"slices"

	"github.com/ambit-mesh/ambit/ztunnel/state/internal/hamt"
)

// builder makes snapshots. It belongs to the Store's writer. The indexes it edits are persistent, so what was published
// stays; what is rebuilt from a set (layers, endpoint lists) is collected first and rebuilt once for each build.
type builder struct {
	cfg    Config
	intern *interner

	workloads *hamt.Editor[string, *Workload]
	byAddr    *hamt.Editor[addrKey, *Workload]
	contested *hamt.Editor[addrKey, []*Workload]
	byHost    *hamt.Editor[Key, []*Workload]
	locals    *hamt.Editor[LocalKey, []*Workload]
	services  serviceIndex
	endpoints *hamt.Editor[Key, *Endpoints]
	policies  policyIndex

	moved   map[Key]map[string]*Workload // endpoint changes by service and UID; nil: removed
	synced  Types
	changed bool // since the last build
	judge   bool // something that may change a decision for a local workload
}

func newBuilder(cfg Config) *builder {
	return &builder{
		cfg:       cfg,
		intern:    newInterner(),
		workloads: hamt.Edit(hamt.Map[string, *Workload]{}),
		byAddr:    hamt.Edit(hamt.Map[addrKey, *Workload]{}),
		contested: hamt.Edit(hamt.Map[addrKey, []*Workload]{}),
		byHost:    hamt.Edit(hamt.Map[Key, []*Workload]{}),
		locals:    hamt.Edit(hamt.Map[LocalKey, []*Workload]{}),
		services:  newServiceIndex(),
		endpoints: hamt.Edit(hamt.Map[Key, *Endpoints]{}),
		policies:  newPolicyIndex(),
		moved:     map[Key]map[string]*Workload{},
	}
}

func (b *builder) apply(u *Update) {
	for _, p := range u.Policies {
		b.putPolicy(p)
	}
	for _, s := range u.Services {
		b.putService(s)
	}
	for _, w := range u.Workloads {
		b.putWorkload(w)
	}
	for _, uid := range u.RemovedWorkloads {
		b.removeWorkload(uid)
	}
	for _, k := range u.RemovedServices {
		b.removeService(k)
	}
	for _, k := range u.RemovedPolicies {
		b.removePolicy(k)
	}
	if b.synced|u.Synced != b.synced {
		b.synced |= u.Synced
		b.changed, b.judge = true, true
	}
}

// build publishes what was applied as the snapshot after prev.
func (b *builder) build(prev *Snapshot) *Snapshot {
	b.buildEndpoints()
	b.policies.build()
	b.intern.sweep()
	next := &Snapshot{
		version:    prev.version + 1,
		judgement:  prev.judgement,
		synced:     b.synced,
		node:       b.cfg.Node,
		network:    b.cfg.Network,
		ranges:     b.cfg.Ranges,
		replaced:   make(chan struct{}),
		workloads:  b.workloads.Map(),
		byAddr:     b.byAddr.Map(),
		contested:  b.contested.Map(),
		byHost:     b.byHost.Map(),
		locals:     b.locals.Map(),
		services:   b.services.byKey.Map(),
		named:      b.services.named.Map(),
		byVIP:      b.services.byVIP.Map(),
		byCIDR:     b.services.byCIDR.Map(),
		cidrBits:   b.services.cidrBits.Map(),
		endpoints:  b.endpoints.Map(),
		policies:   b.policies.byKey.Map(),
		global:     b.policies.global,
		namespaces: b.policies.namespaces.Map(),
		selected:   b.policies.selected.Map(),
	}
	if b.judge {
		next.judgement = next.version
	}
	b.changed, b.judge = false, false
	return next
}

func (b *builder) putService(s *Service) {
	k := s.Key()
	if old, ok := b.services.byKey.Get(k); ok {
		if reflect.DeepEqual(old, s) {
			return
		}
		b.services.remove(old)
	}
	b.services.put(s)
	b.touchEndpoints(k)
	b.changed = true
}

func (b *builder) removeService(k Key) {
	old, ok := b.services.byKey.Get(k)
	if !ok {
		return
	}
	b.services.remove(old)
	b.touchEndpoints(k)
	b.changed = true
}

func (b *builder) putPolicy(p *Policy) {
	old, ok := b.policies.byKey.Get(p.Key)
	if ok && (p.Broken != "" && old.Broken == "" || reflect.DeepEqual(old, p)) {
		return
	}
	if ok {
		b.policies.remove(old)
	}
	b.policies.put(p)
	b.changed, b.judge = true, true
}

func (b *builder) removePolicy(k Key) {
	old, ok := b.policies.byKey.Get(k)
	if !ok {
		return
	}
	b.policies.remove(old)
	b.changed, b.judge = true, true
}

// touchEndpoints makes a service's endpoints start anew, without what was derived from them and the old service.
func (b *builder) touchEndpoints(service Key) {
	if b.moved[service] == nil {
		b.moved[service] = map[string]*Workload{}
	}
}

func (b *builder) moveEndpoint(service Key, uid string, w *Workload) {
	b.touchEndpoints(service)
	b.moved[service][uid] = w
}

func (b *builder) buildEndpoints() {
	for service, changes := range b.moved {
		old, _ := b.endpoints.Get(service)
		list := old.All()
		if len(changes) > 0 {
			list = merge(list, changes)
		}
		if len(list) == 0 {
			b.endpoints.Delete(service)
			continue
		}
		b.endpoints.Set(b.intern.key(service), &Endpoints{list: list})
	}
	b.moved = map[Key]map[string]*Workload{} // not cleared: a map never shrinks
}

// insert adds to a short sorted list; the old one stays as it is.
func insert[T any](list []T, v T, compare func(a, b T) int) []T {
	i, _ := slices.BinarySearchFunc(list, v, compare)
	return slices.Insert(slices.Clip(list), i, v)
}

// without is a short list less some elements; the old one stays as it is.
func without[T any](list []T, drop func(T) bool) []T {
	return slices.DeleteFunc(slices.Clone(list), drop)
}
