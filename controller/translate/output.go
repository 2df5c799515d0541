package translate

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/ambit-mesh/ambit/controller/api/authz"
	"github.com/ambit-mesh/ambit/controller/api/workload"
	"github.com/ambit-mesh/ambit/controller/objects"
)

// Output is one resource as it is now: an address, or a policy if IsPolicy. Both nil means that the name is gone, unless there
// is an Err: then it could not be encoded, and what was there before stays.
type Output struct {
	Name     string
	IsPolicy bool
	Address  *workload.Address
	Policy   *authz.Authorization
	// Encoded is the message in deterministic encoding, valid until the function that is given it returns.
	Encoded []byte
	Err     error
}

// output is what is remembered of an Output: enough to see that the next one is the same.
type output struct {
	resource
	sum uint64 // of the encoding
}

// resource is a name among those of its type.
type resource struct {
	isPolicy bool
	name     string
}

// settle makes the dirty units anew.
func (t *Translator) settle(emit func(Output)) map[objects.Key]objects.Status {
	before := map[resource]uint64{} // what the dirty units had come to: a name may move from one to another
	statuses := map[objects.Key]objects.Status{}
	kept := set[resource]{}
	for len(t.dirty) > 0 { // objects first, then the policies that they share, which making them may have marked
		round := slices.SortedFunc(maps.Keys(t.dirty), objects.Key.Compare)
		t.dirty = set[objects.Key]{} // not cleared: a map keeps the room of the first state for ever
		for _, key := range round {
			for _, o := range t.made[key] {
				before[o.resource] = o.sum
				delete(kept, o.resource) // of a unit that is made a second time
			}
		}
		for _, key := range round {
			u := t.build(key)
			made := t.emitUnit(u, before, kept, emit)
			store(t.made, key, made, len(made) == 0)
			st := u.status(key, t.in.objs[key])
			if old, ok := t.statuses[key]; ok == st.Empty() || ok && !old.Equal(st) {
				statuses[key] = st
				store(t.statuses, key, st, st.Empty())
			}
		}
	}
	for r := range before {
		if !kept.has(r) {
			emit(Output{Name: r.name, IsPolicy: r.isPolicy})
		}
	}
	return statuses
}

// emitUnit emits what of a unit is not as before, and returns what to remember of it.
func (t *Translator) emitUnit(u unit, before map[resource]uint64, kept set[resource], emit func(Output)) []output {
	var made []output
	for _, out := range u.outputs() {
		now := output{resource: resource{out.IsPolicy, out.Name}}
		if out.Err = t.encode(&out); out.Err == nil {
			now.sum = sum(out.Encoded)
		} else {
			now.sum = before[now.resource]
			emit(Output{Name: out.Name, IsPolicy: out.IsPolicy, Err: out.Err})
		}
		if kept.has(now.resource) {
			continue // an object that says the same twice
		}
		kept.add(now.resource)
		made = append(made, now)
		if old, ok := before[now.resource]; out.Err == nil && (!ok || old != now.sum) {
			emit(out)
		}
	}
	return slices.Clip(made)
}

// Statuses is everything that owners of objects are told now. The map is a copy.
func (t *Translator) Statuses() map[objects.Key]objects.Status { return maps.Clone(t.statuses) }

// outputs are the unit's resources, not yet encoded.
func (u unit) outputs() []Output {
	out := make([]Output, 0, len(u.addresses)+len(u.policies))
	for _, a := range u.addresses {
		out = append(out, Output{Name: AddressName(a), Address: a})
	}
	for _, p := range u.policies {
		out = append(out, Output{Name: PolicyName(p), IsPolicy: true, Policy: p})
	}
	return out
}

// encode fills in the encoding. It fails for text that is not UTF-8 only.
func (t *Translator) encode(o *Output) error {
	m := proto.Message(o.Address)
	if o.IsPolicy {
		m = o.Policy
	}
	encoded, err := proto.MarshalOptions{Deterministic: true}.MarshalAppend(t.buf[:0], m)
	if err != nil {
		return fmt.Errorf("encode %s: %w", o.Name, err)
	}
	t.buf, o.Encoded = encoded, encoded
	return nil
}

func sum(encoded []byte) uint64 {
	s := sha256.Sum256(encoded)
	return binary.BigEndian.Uint64(s[:])
}

func store[K comparable, V any](m map[K]V, k K, v V, gone bool) {
	if gone {
		delete(m, k)
		return
	}
	m[k] = v
}
