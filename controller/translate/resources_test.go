package translate

import (
	"google.golang.org/protobuf/proto"

	"github.com/ambit-mesh/ambit/controller/api/authz"
	"github.com/ambit-mesh/ambit/controller/api/workload"
	"github.com/ambit-mesh/ambit/controller/objects"
)

// Resources are named outputs. In a delta, a nil value, or a Status that is Empty, means that the name is gone.
type Resources struct {
	Addresses map[string]*workload.Address
	Policies  map[string]*authz.Authorization
	Statuses  map[objects.Key]objects.Status
}

// Empty reports that there is nothing in it.
func (r Resources) Empty() bool { return len(r.Addresses)+len(r.Policies)+len(r.Statuses) == 0 }

func newResources() Resources {
	return Resources{map[string]*workload.Address{}, map[string]*authz.Authorization{}, map[objects.Key]objects.Status{}}
}

// Apply is Update, with the outputs collected from their encodings.
func (t *Translator) Apply(changes []objects.Change) Resources {
	r := newResources()
	r.Statuses = t.Update(changes, r.put)
	return r
}

func (r Resources) put(o Output) {
	switch {
	case o.Err != nil:
	case o.IsPolicy && o.Policy != nil:
		r.Policies[o.Name] = &authz.Authorization{}
		mustDecode(o.Encoded, r.Policies[o.Name])
	case o.IsPolicy:
		r.Policies[o.Name] = nil
	case o.Address != nil:
		r.Addresses[o.Name] = &workload.Address{}
		mustDecode(o.Encoded, r.Addresses[o.Name])
	default:
		r.Addresses[o.Name] = nil
	}
}

func mustDecode(data []byte, into proto.Message) {
	if err := proto.Unmarshal(data, into); err != nil {
		panic(err)
	}
}

// Resources is everything there is now, made anew from the translator's objects and indexes.
func (t *Translator) Resources() Resources {
	r := newResources()
	for key := range t.made {
		for _, o := range t.build(key).outputs() {
			if t.encode(&o) == nil {
				r.put(o)
			}
		}
	}
	for key, st := range t.statuses {
		r.Statuses[key] = st
	}
	return r
}
