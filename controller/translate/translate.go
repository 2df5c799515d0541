// Package translate answers what the node proxies must know: it turns Kubernetes objects into workloads, services and
// authorization policies, and into the conditions that tell the objects' owners what came of them.
//
// It is pure: no I/O, no clock, no logger, no goroutine. Changes go in, the resources that differ come out, and the work is
// that of the objects which the change can concern: each translated object is a unit, Apply marks the units a change
// touches (mark.go), makes their outputs anew and compares. The root package drives one Translator from one goroutine.
//
//	Pod, WorkloadEntry, EndpointSlice ─┐
//	Service, ServiceEntry ─────────────┼─ unit ─► addresses, policies, conditions ─► Delta
//	AuthorizationPolicy, PeerAuthentication ─┘
//
// Messages it has returned are never changed again.
package translate

import (
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/ambit-mesh/ambit/controller/api/authz"
	"github.com/ambit-mesh/ambit/controller/api/workload"
	"github.com/ambit-mesh/ambit/controller/objects"
)

// Settings are the mesh-wide names. They do not change while a Translator lives.
type Settings struct {
	ClusterID          string // of Kubernetes' cluster: "Kubernetes" by default
	Network            string // of all addresses: "" by default
	TrustDomain        string // "cluster.local" by default
	TrustDomainAliases []string
	RootNamespace      string // whose policies hold for the mesh: "istio-system" by default
	ClusterDomain      string // "cluster.local" by default
	// PublishDryRun sends policies annotated istio.io/dry-run to the nodes. Proxies older than the field would enforce them.
	PublishDryRun bool
}

// Defaults fills what is empty.
func (s Settings) Defaults() Settings {
	for _, d := range []struct {
		field *string
		value string
	}{
		{&s.ClusterID, "Kubernetes"}, {&s.TrustDomain, "cluster.local"}, {&s.RootNamespace, "istio-system"}, {&s.ClusterDomain, "cluster.local"},
	} {
		if *d.field == "" {
			*d.field = d.value
		}
	}
	return s
}

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

// unit is what one object (or, for policies that stand for several, one pseudo object) came to.
type unit struct {
	addresses  []*workload.Address
	policies   []*authz.Authorization
	conditions []objects.Condition
	// extra is what a status has beside conditions; nil for most.
	extra *objects.Status
}

// speaks reports that there is a status.
func (u unit) speaks() bool { return len(u.conditions) > 0 || u.extra != nil && !u.extra.Empty() }

// status is what the owner of the unit's object is told.
func (u unit) status(key objects.Key, o objects.Object) objects.Status {
	st := objects.Status{Key: key}
	if u.extra != nil {
		st = *u.extra
		st.Key = key
	}
	st.Conditions = u.conditions
	if o != nil && !st.Empty() {
		st.Generation = o.GetGeneration()
	}
	return st
}

// Translator holds the objects and what they came to. It is not safe for concurrent use.
type Translator struct {
	set   Settings
	in    inputs
	units map[objects.Key]unit
	out   Resources
	dirty set[objects.Key]
}

// New makes a translator without objects.
func New(s Settings) *Translator {
	return &Translator{set: s.Defaults(), in: newInputs(), units: map[objects.Key]unit{}, out: newResources(), dirty: set[objects.Key]{}}
}

// Apply takes changes and returns what is different from before: changed resources, and nil for those that are gone.
func (t *Translator) Apply(changes []objects.Change) Resources {
	for _, c := range changes {
		old := t.in.objs[c.Key]
		if old == nil && c.Object == nil {
			continue
		}
		if old != nil {
			t.mark(c.Key, old)
			t.in.remove(t.set, c.Key, old)
		}
		if c.Object != nil {
			t.in.add(t.set, c.Key, c.Object)
			t.mark(c.Key, c.Object)
		}
	}
	t.allocate()
	return t.settle()
}

// settle makes the dirty units anew.
func (t *Translator) settle() Resources {
	touched := newResources() // the names concerned, with their new values
	dirty := slices.SortedFunc(maps.Keys(t.dirty), objects.Key.Compare)
	for _, key := range dirty { // all removals first: a name may move from one unit to another
		u := t.units[key]
		for _, a := range u.addresses {
			touched.Addresses[AddressName(a)] = nil
		}
		for _, p := range u.policies {
			touched.Policies[PolicyName(p)] = nil
		}
		if u.speaks() {
			touched.Statuses[key] = objects.Status{Key: key}
		}
	}
	for _, key := range dirty {
		u := t.build(key)
		t.units[key] = u
		if len(u.addresses)+len(u.policies) == 0 && !u.speaks() {
			delete(t.units, key)
		}
		for _, a := range u.addresses {
			touched.Addresses[AddressName(a)] = a
		}
		for _, p := range u.policies {
			touched.Policies[PolicyName(p)] = p
		}
		if u.speaks() {
			touched.Statuses[key] = u.status(key, t.in.objs[key])
		}
	}
	clear(t.dirty)
	return t.commit(touched)
}

// commit stores what really differs and returns it.
func (t *Translator) commit(touched Resources) Resources {
	for name, a := range touched.Addresses {
		if old, ok := t.out.Addresses[name]; ok == (a != nil) && (!ok || proto.Equal(old, a)) {
			delete(touched.Addresses, name)
			continue
		}
		store(t.out.Addresses, name, a, a == nil)
	}
	for name, p := range touched.Policies {
		if old, ok := t.out.Policies[name]; ok == (p != nil) && (!ok || proto.Equal(old, p)) {
			delete(touched.Policies, name)
			continue
		}
		store(t.out.Policies, name, p, p == nil)
	}
	for key, st := range touched.Statuses {
		if old, ok := t.out.Statuses[key]; ok == !st.Empty() && (!ok || old.Equal(st)) {
			delete(touched.Statuses, key)
			continue
		}
		store(t.out.Statuses, key, st, st.Empty())
	}
	return touched
}

func store[K comparable, V any](m map[K]V, k K, v V, gone bool) {
	if gone {
		delete(m, k)
		return
	}
	m[k] = v
}

// build makes one unit. Only what mark.go tells of may be read here.
func (t *Translator) build(key objects.Key) unit {
	t.forget(key)
	if key == staticStrictUnit {
		return t.staticStrict()
	}
	if t.in.objs[key] == nil {
		return unit{}
	}
	switch key.Kind {
	case objects.Pod:
		return t.pod(key)
	case objects.WorkloadEntry:
		return t.workloadEntry(key)
	case objects.EndpointSlice:
		return t.endpointSlice(key)
	case objects.Service:
		return t.service(key)
	case objects.ServiceEntry:
		return t.serviceEntry(key)
	case objects.AuthorizationPolicy:
		return t.authorizationPolicy(key)
	case objects.PeerAuthentication:
		return t.peerAuthentication(key)
	case objects.Namespace, objects.Node, objects.ServiceAccount, objects.VirtualService, objects.DestinationRule, objects.Gateway, objects.HTTPRoute,
		objects.GatewayClass, objects.GRPCRoute, objects.ConfigMap:
		return unit{}
	default:
		return unit{}
	}
}

// Resources is everything there is now. The maps are copies.
func (t *Translator) Resources() Resources {
	return Resources{maps.Clone(t.out.Addresses), maps.Clone(t.out.Policies), maps.Clone(t.out.Statuses)}
}

// AddressName is the xDS name of an address: a workload's uid, a service's namespace/hostname.
func AddressName(a *workload.Address) string {
	if w := a.GetWorkload(); w != nil {
		return w.Uid
	}
	return a.GetService().GetNamespace() + "/" + a.GetService().GetHostname()
}

// PolicyName is the xDS name of a policy.
func PolicyName(p *authz.Authorization) string { return p.Namespace + "/" + p.Name }
