package state

import (
	"iter"
	"net/netip"
	"unique"

	"github.com/ambit-mesh/ambit/ztunnel/state/internal/hamt"
)

// Types is a set of resource types.
type Types uint8

// The resource types that must have arrived in full before anything may be concluded from something's absence.
const (
	TypeAddress Types = 1 << iota // workloads and services
	TypePolicy
	TypesAll = TypeAddress | TypePolicy
)

// Snapshot is all this node knows at one moment. It never changes. The zero value is empty and not synced.
type Snapshot struct {
	version   uint64
	judgement uint64
	synced    Types
	node      string
	network   string
	ranges    []netip.Prefix
	replaced  chan struct{} // closed when a newer snapshot is published

	workloads hamt.Map[string, *Workload]
	byAddr    hamt.Map[addrKey, *Workload]
	contested hamt.Map[addrKey, []*Workload] // addresses of more than one workload, best first
	byHost    hamt.Map[Key, []*Workload]     // workloads that have a hostname
	locals    hamt.Map[LocalKey, []*Workload]

	services  hamt.Map[Key, *Service]
	named     hamt.Map[string, []*Service] // by hostname, sorted by key
	byVIP     hamt.Map[addrKey, []*Service]
	byCIDR    hamt.Map[cidrKey, []*Service]
	cidrBits  hamt.Map[cidrBits, int] // how many CIDRs of each length there are
	endpoints hamt.Map[Key, *Endpoints]

	policies   hamt.Map[Key, *Policy]
	global     *PolicyLayer
	namespaces hamt.Map[string, *PolicyLayer]
	selected   hamt.Map[*Key, *PolicyLayer] // by the interned list of references
}

// addrKey is a NetworkAddr in the form that takes least memory: there is one per workload address.
type addrKey struct {
	network unique.Handle[string]
	ip      [16]byte
}

func (a NetworkAddr) key() addrKey {
	return addrKey{network: unique.Make(a.Network), ip: a.IP.Unmap().As16()}
}

// LocalKey is how the agent names a pod of this node.
type LocalKey struct{ Namespace, Name, ServiceAccount string }

// Version numbers the snapshots of a Store, from 1; 0 is the empty one.
func (s *Snapshot) Version() uint64 { return s.version }

// Judgement is the version at which something last changed that may alter a decision about a connection to a workload
// of this node: a policy, or which policies apply to it. Live connections need no new judgement while it stays.
func (s *Snapshot) Judgement() uint64 { return s.judgement }

// Synced reports whether everything has arrived once. Before, absence means nothing.
func (s *Snapshot) Synced() bool { return s.synced == TypesAll }

// SyncedTypes says which types have arrived in full.
func (s *Snapshot) SyncedTypes() Types { return s.synced }

// Replaced is closed when a newer snapshot has been published. It is nil, and so never ready, for one from no Store.
func (s *Snapshot) Replaced() <-chan struct{} { return s.replaced }

// Node is the name of this node; "" counts every workload as local.
func (s *Snapshot) Node() string { return s.node }

// Network is the network this node is in.
func (s *Snapshot) Network() string { return s.network }

// Ranges are those from which pods and services of the mesh get addresses. Do not modify it.
func (s *Snapshot) Ranges() []netip.Prefix { return s.ranges }

// InMesh reports whether ip lies in a range from which pods or services get their addresses, so that not knowing it is
// suspicious.
func (s *Snapshot) InMesh(ip netip.Addr) bool {
	for _, r := range s.ranges {
		if r.Contains(ip) {
			return true
		}
	}
	return false
}

// Workload finds a workload by its UID, or nil.
func (s *Snapshot) Workload(uid string) *Workload {
	w, _ := s.workloads.Get(uid)
	return w
}

// WorkloadAt finds the workload that has an address, or nil. Workloads on the host's network are not found: the address
// is their node's. Of several the best claim wins: a pod, then one that takes tunnels, then the lowest UID.
func (s *Snapshot) WorkloadAt(a NetworkAddr) *Workload {
	w, _ := s.byAddr.Get(a.key())
	return w
}

// WorkloadByHostname finds the workload of a namespace that has a hostname, or nil.
func (s *Snapshot) WorkloadByHostname(host Key) *Workload { return first(s.byHost, host) }

// Local finds a workload of this node as the agent names it, or nil.
func (s *Snapshot) Local(k LocalKey) *Workload { return first(s.locals, k) }

// IsLocal reports whether w runs on this node.
func (s *Snapshot) IsLocal(w *Workload) bool { return s.node == "" || w.Node == s.node }

func first[K comparable](m hamt.Map[K, []*Workload], k K) *Workload {
	ws, _ := m.Get(k)
	if len(ws) == 0 {
		return nil
	}
	return ws[0]
}

// Locals yields the workloads of this node, in no particular order.
func (s *Snapshot) Locals() iter.Seq[*Workload] {
	return func(yield func(*Workload) bool) {
		for _, ws := range s.locals.All() {
			for _, w := range ws {
				if !yield(w) {
					return
				}
			}
		}
	}
}

// Workloads yields every workload, in no particular order.
func (s *Snapshot) Workloads() iter.Seq[*Workload] { return values(s.workloads) }

// Services yields every service, in no particular order.
func (s *Snapshot) Services() iter.Seq[*Service] { return values(s.services) }

// Policies yields every policy, in no particular order.
func (s *Snapshot) Policies() iter.Seq[*Policy] { return values(s.policies) }

// Size is how much a snapshot holds.
type Size struct{ Workloads, Services, Policies int }

// Size counts what there is.
func (s *Snapshot) Size() Size {
	return Size{Workloads: s.workloads.Len(), Services: s.services.Len(), Policies: s.policies.Len()}
}

func values[K comparable, V any](m hamt.Map[K, V]) iter.Seq[V] {
	return func(yield func(V) bool) {
		for _, v := range m.All() {
			if !yield(v) {
				return
			}
		}
	}
}
