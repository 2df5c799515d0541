// Package translate answers what the node proxies must know: it turns Kubernetes objects into workloads, services and
// authorization policies, and into the conditions that tell the objects' owners what came of them.
//
// It is pure: no I/O, no clock, no logger, no goroutine. Changes go in, the resources that differ come out, and the work is
// that of the objects which the change can concern: each translated object is a unit, Apply marks the units a change
// touches (mark.go), makes their outputs anew and compares. The root package drives one Translator from one goroutine.
//
//	Pod, WorkloadEntry, EndpointSlice ─┐
//	Service, ServiceEntry ─────────────┼─ unit ─► addresses, policies, conditions ─► Output
//	AuthorizationPolicy, PeerAuthentication ─┤
//	Gateway, GatewayClass, routes, MeshConfig ┘
//
// Outputs are encoded as they are made and forgotten: what is kept of each is its name and a hash, to see whether the next one
// is the same.
package translate

import (
	"github.com/ambit-mesh/ambit/controller/api/authz"
	"github.com/ambit-mesh/ambit/controller/api/workload"
	"github.com/ambit-mesh/ambit/controller/objects"
)

// unit is what one object (or, for policies that stand for several, one pseudo object) came to.
type unit struct {
	addresses  []*workload.Address
	policies   []*authz.Authorization
	conditions []objects.Condition
	// extra is what a status has beside conditions; nil for most.
	extra *objects.Status
}

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
	given   Settings // as started
	mesh    Mesh     // the last good MeshConfig
	meshErr error    // why the newest one is not in force
	// meshRead says that mesh is what some MeshConfig said, rather than nothing.
	meshRead bool
	set      Settings // in force: given, mesh's, defaults
	in       inputs
	dirty    set[objects.Key]

	guards   map[objects.Key]guard           // of services
	guarded  multi[objects.Key, objects.Key] // services by the waypoints of their guard
	accounts map[objects.Key][]string        // of the instances of Gateways
	shared   map[objects.Key]*sharedPolicy
	sharing  map[objects.Key]objects.Key // users of shared policies

	made     map[objects.Key][]output // by unit
	statuses map[objects.Key]objects.Status
	buf      []byte // of the encoding
}

// New makes a translator without objects.
func New(s Settings) *Translator {
	return &Translator{
		given: s, set: s.Defaults(), in: newInputs(), dirty: set[objects.Key]{}, made: map[objects.Key][]output{}, statuses: map[objects.Key]objects.Status{},
		guards: map[objects.Key]guard{}, guarded: multi[objects.Key, objects.Key]{}, accounts: map[objects.Key][]string{},
		shared: map[objects.Key]*sharedPolicy{}, sharing: map[objects.Key]objects.Key{},
	}
}

// Update takes changes and emits what is different from before, one resource after the other as they are made, so that no
// more than one exists as a message: a first state has tens of thousands. It returns the statuses that differ.
func (t *Translator) Update(changes []objects.Change, emit func(Output)) map[objects.Key]objects.Status {
	for _, c := range changes {
		t.put(c)
	}
	t.allocate()
	t.updateGuards()
	return t.settle(emit)
}

// build makes one unit. Only what mark.go tells of may be read here.
func (t *Translator) build(key objects.Key) unit {
	t.release(key)
	if key == staticStrictUnit {
		return t.staticStrict()
	}
	if key.Kind == kindShared {
		return t.sharedUnit(key)
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
	case objects.Gateway:
		return t.gateway(key)
	case objects.GatewayClass:
		return t.gatewayClass(key)
	case objects.HTTPRoute, objects.GRPCRoute:
		return t.route(key)
	case objects.ConfigMap:
		return t.meshConfig(key)
	case objects.Namespace, objects.Node, objects.ServiceAccount, objects.VirtualService, objects.DestinationRule:
		return unit{}
	default:
		return unit{}
	}
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
