package xds

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/ambit-mesh/ambit/controller/api/authz"
	"github.com/ambit-mesh/ambit/controller/api/workload"
)

// What is kept of a resource is what clients are sent, so dumps decode that, one resource at a time. They are taken from a list
// of entries, which do not change: a reader that is slow holds up nobody.

// Addresses calls f with every workload and service, in the order of their names, until it fails.
func (t *Table) Addresses(f func(name string, a *workload.Address) error) error {
	for _, e := range t.live(workload.AddressTypeURL) {
		a := &workload.Address{}
		if err := e.decode(a); err != nil {
			return err
		}
		if err := f(e.name, a); err != nil {
			return err
		}
	}
	return nil
}

// Policies calls f with every authorization policy, in the order of their names, until it fails.
func (t *Table) Policies(f func(name string, p *authz.Authorization) error) error {
	for _, e := range t.live(authz.TypeURL) {
		p := &authz.Authorization{}
		if err := e.decode(p); err != nil {
			return err
		}
		if err := f(e.name, p); err != nil {
			return err
		}
	}
	return nil
}

// Endpoints calls f with the workloads of every service that has any, in the order of their names, until it fails.
func (t *Table) Endpoints(f func(service string, members []*workload.Workload) error) error {
	t.mu.RLock()
	of := make(map[string][]*entry, len(t.kinds[workload.AddressTypeURL].byService))
	for service, members := range t.kinds[workload.AddressTypeURL].byService {
		of[service] = slices.Collect(maps.Keys(members))
	}
	t.mu.RUnlock()
	for _, service := range slices.Sorted(maps.Keys(of)) {
		slices.SortFunc(of[service], byName)
		var list []*workload.Workload
		for _, e := range of[service] {
			a := &workload.Address{}
			if err := e.decode(a); err != nil {
				return err
			}
			list = append(list, a.GetWorkload())
		}
		if err := f(service, list); err != nil {
			return err
		}
	}
	return nil
}

func byName(a, b *entry) int { return strings.Compare(a.name, b.name) }

// live is the entries of a type that are not gone, by name.
func (t *Table) live(typeURL string) []*entry {
	t.mu.RLock()
	k := t.kinds[typeURL]
	out := make([]*entry, 0, k.live)
	for e := k.oldest; e != nil; e = e.newer {
		if !e.gone {
			out = append(out, e)
		}
	}
	t.mu.RUnlock()
	slices.SortFunc(out, byName)
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
