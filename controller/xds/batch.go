package xds

import (
	"github.com/ambit-mesh/ambit/controller/api/authz"
	"github.com/ambit-mesh/ambit/controller/api/workload"
)

// Batch is resources to publish together. What is put is encoded into the form in which it is sent, at once: nothing else of
// it is kept. It is not safe for concurrent use.
type Batch struct {
	addresses, policies []*entry
	names               map[string]string // services' names, one copy of each
}

// Empty reports that nothing was put.
func (b *Batch) Empty() bool { return len(b.addresses)+len(b.policies) == 0 }

// Len is how many resources of each type were put.
func (b *Batch) Len() (addresses, policies int) { return len(b.addresses), len(b.policies) }

// PutAddress replaces the address of that name. encoded is a in deterministic encoding and is copied.
func (b *Batch) PutAddress(name string, a *workload.Address, encoded []byte) {
	e := newEntry(workload.AddressTypeURL, name, encoded)
	describe(e, a)
	if b.names == nil {
		b.names = map[string]string{}
	}
	for i, s := range e.services {
		if _, ok := b.names[s]; !ok {
			b.names[s] = s
		}
		e.services[i] = b.names[s]
	}
	b.addresses = append(b.addresses, e)
}

// PutPolicy replaces the policy of that name. encoded is p in deterministic encoding and is copied.
func (b *Batch) PutPolicy(name string, p *authz.Authorization, encoded []byte) {
	e := newEntry(authz.TypeURL, name, encoded)
	e.scoped = scopeOf(p)
	b.policies = append(b.policies, e)
}

// RemoveAddress says that there is no address of that name any more.
func (b *Batch) RemoveAddress(name string) {
	b.addresses = append(b.addresses, &entry{name: name, gone: true})
}

// RemovePolicy says that there is no policy of that name any more.
func (b *Batch) RemovePolicy(name string) {
	b.policies = append(b.policies, &entry{name: name, gone: true})
}
