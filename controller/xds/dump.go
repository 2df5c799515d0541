package xds

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/ambit-mesh/ambit/controller/api/authz"
	"github.com/ambit-mesh/ambit/controller/api/workload"
)

// Dump is every resource as a message, decoded from what clients are sent, which is all that is kept of them.
func (t *Table) Dump() (map[string]*workload.Address, map[string]*authz.Authorization, error) {
	addresses, policies := map[string]*workload.Address{}, map[string]*authz.Authorization{}
	for _, e := range t.live(workload.AddressTypeURL) {
		a := &workload.Address{}
		if err := e.decode(a); err != nil {
			return nil, nil, err
		}
		addresses[e.name] = a
	}
	for _, e := range t.live(authz.TypeURL) {
		p := &authz.Authorization{}
		if err := e.decode(p); err != nil {
			return nil, nil, err
		}
		policies[e.name] = p
	}
	return addresses, policies, nil
}

// live is the entries of a type that are not gone.
func (t *Table) live(typeURL string) []*entry {
	t.mu.RLock()
	defer t.mu.RUnlock()
	k := t.kinds[typeURL]
	out := make([]*entry, 0, k.live)
	for e := k.oldest; e != nil; e = e.newer {
		if !e.gone {
			out = append(out, e)
		}
	}
	return out
}

// decode reads the content out of the frame: field 2 of the Any in field 2 of the Resource.
func (e *entry) decode(m proto.Message) error {
	b := e.frame[e.header:]
	for range 2 {
		var err error
		if b, err = field2(b); err != nil {
			return fmt.Errorf("decode %s: %w", e.name, err)
		}
	}
	if err := proto.Unmarshal(b, m); err != nil {
		return fmt.Errorf("decode %s: %w", e.name, err)
	}
	return nil
}

func field2(b []byte) ([]byte, error) {
	for len(b) > 0 {
		number, _, n := protowire.ConsumeTag(b)
		if n < 0 {
			return nil, protowire.ParseError(n)
		}
		value, m := protowire.ConsumeBytes(b[n:])
		if m < 0 {
			return nil, protowire.ParseError(m)
		}
		if number == 2 {
			return value, nil
		}
		b = b[n+m:]
	}
	return nil, fmt.Errorf("no content")
}
