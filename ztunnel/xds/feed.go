package xds

import (
	"errors"

	"github.com/ambit-mesh/ambit/controller/api/authz"
	"github.com/ambit-mesh/ambit/controller/api/workload"
	"github.com/ambit-mesh/ambit/controller/client"
	"github.com/ambit-mesh/ambit/ztunnel/state"
)

// Types is what a node asks for: everything, of both types.
func Types() []client.Type {
	return []client.Type{{URL: workload.AddressTypeURL}, {URL: authz.TypeURL}}
}

// Feed puts what a client receives into a Store. It belongs to the client's Run.
//
// A type counts as synchronised with its first response, whether every resource in it was accepted or not: a refused
// policy denies what it may concern, and a refused workload is unknown, which is closed on both of its ends. Waiting for
// a response without fault would let one bad resource stop the node.
type Feed struct {
	store   *state.Store
	pending []*state.Update
}

// NewFeed makes a feed; it is a client.Handler.
func NewFeed(store *state.Store) *Feed { return &Feed{store: store} }

// Handle decodes a batch. What is accepted becomes visible at Flush.
func (f *Feed) Handle(b client.Batch) map[string]error {
	u := &state.Update{}
	rejected := map[string]error{}
	switch b.TypeURL {
	case workload.AddressTypeURL:
		addresses(u, b, rejected)
		u.Synced = state.TypeAddress
	case authz.TypeURL:
		policies(u, b, rejected)
		u.Synced = state.TypePolicy
	default:
		for _, r := range b.Resources {
			rejected[r.Name] = errUnknownType
		}
		return rejected
	}
	f.pending = append(f.pending, u)
	return rejected
}

var errUnknownType = errors.New("resource of an unknown type")

// Flush publishes one snapshot with all that was handled.
func (f *Feed) Flush() {
	f.store.Apply(f.pending...)
	clear(f.pending)
	f.pending = f.pending[:0]
}

func addresses(u *state.Update, b client.Batch, rejected map[string]error) {
	for i := range b.Resources {
		r := &b.Resources[i]
		w, s, err := decodeAddress(r.Name, r.Body)
		r.Body = nil // decoded: let it go before the next
		switch {
		case err != nil:
			rejected[r.Name] = err
		case w != nil:
			u.Workloads = append(u.Workloads, w)
		default:
			u.Services = append(u.Services, s)
		}
	}
	for _, name := range b.Removed {
		// The name does not say what it was: a uid has more than one slash, but nothing forbids fewer.
		u.RemovedWorkloads = append(u.RemovedWorkloads, name)
		if k, ok := state.ParseKey(name); ok {
			u.RemovedServices = append(u.RemovedServices, k)
		}
	}
}

func policies(u *state.Update, b client.Batch, rejected map[string]error) {
	for i := range b.Resources {
		r := &b.Resources[i]
		p, err := decodePolicy(r.Name, r.Body)
		r.Body = nil
		if err != nil {
			rejected[r.Name] = err
		}
		if p != nil {
			u.Policies = append(u.Policies, p)
		}
	}
	for _, name := range b.Removed {
		if k, ok := state.ParseKey(name); ok {
			u.RemovedPolicies = append(u.RemovedPolicies, k)
		}
	}
}
