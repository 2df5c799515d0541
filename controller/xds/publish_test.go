package xds

import (
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/ambit-mesh/ambit/controller/api/authz"
	"github.com/ambit-mesh/ambit/controller/api/workload"
)

// Publish commits messages; nil ones are removed.
func (t *Table) Publish(addresses map[string]*workload.Address, policies map[string]*authz.Authorization, now time.Time) error {
	var b Batch
	for name, a := range addresses {
		if a == nil {
			b.RemoveAddress(name)
			continue
		}
		data, err := proto.MarshalOptions{Deterministic: true}.Marshal(a)
		if err != nil {
			return err
		}
		b.PutAddress(name, a, data)
	}
	for name, p := range policies {
		if p == nil {
			b.RemovePolicy(name)
			continue
		}
		data, err := proto.MarshalOptions{Deterministic: true}.Marshal(p)
		if err != nil {
			return err
		}
		b.PutPolicy(name, p, data)
	}
	t.Commit(&b, now)
	return nil
}
