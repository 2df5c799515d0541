package kube

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"github.com/ambit-mesh/ambit/controller/objects"
)

// controllerName is ours in a route's status.parents: that of the GatewayClass istio-waypoint.
const controllerName = "istio.io/mesh-controller"

// owned reports condition types that are the mesh's whoever wrote them: those Istio's control plane leaves behind too. What a
// Gateway or a GatewayClass carries is its controller's, so there only what is wanted is ours.
func owned(kind objects.Kind, conditionType string) bool {
	switch kind {
	case objects.Gateway, objects.GatewayClass:
		return false
	}
	switch conditionType {
	case "istio.io/WaypointBound", "istio.io/WaypointMissing", "istio.io/VisibilityApplied", "ZtunnelAccepted", "WaypointAccepted":
		return true
	default:
		return strings.HasPrefix(conditionType, "ambit.io/")
	}
}

// noted is what an object's status says of the mesh: as much of it as comparing needs.
type noted struct {
	Conditions []notedCondition      `json:"conditions,omitempty"`
	Listeners  []notedListener       `json:"listeners,omitempty"`
	Parents    []notedParent         `json:"parents,omitempty"`
	Addresses  []objects.HostAddress `json:"addresses,omitempty"`
}

type notedCondition struct {
	Type       string     `json:"type"`
	Status     string     `json:"status"`
	Reason     string     `json:"reason"`
	Message    string     `json:"message"`
	Generation generation `json:"observedGeneration"`
}

type notedListener struct {
	Name           string              `json:"name"`
	AttachedRoutes int32               `json:"attachedRoutes"`
	SupportedKinds []objects.GroupKind `json:"supportedKinds"`
	Conditions     []notedCondition    `json:"conditions"`
}

type notedParent struct {
	Controller string           `json:"controllerName"`
	Ref        wireRef          `json:"parentRef"`
	Conditions []notedCondition `json:"conditions"`
}

// wireRef is a parentRef as the API has it.
type wireRef struct {
	Group     *string `json:"group,omitempty"`
	Kind      *string `json:"kind,omitempty"`
	Namespace *string `json:"namespace,omitempty"`
	Name      string  `json:"name"`
	Section   *string `json:"sectionName,omitempty"`
	Port      *int32  `json:"port,omitempty"`
}

// generation is a number that Istio's types write as a text.
type generation int64

// UnmarshalJSON reads both forms.
func (g *generation) UnmarshalJSON(data []byte) error {
	if len(data) > 1 && data[0] == '"' {
		data = data[1 : len(data)-1]
	}
	n, err := strconv.ParseInt(string(data), 10, 64)
	*g = generation(n)
	return err
}

// noteOf is what an object's status says of the mesh, or nil if that is nothing. A status that nobody can read says nothing: it is
// looked at again, and replaced, when there is something to write.
func noteOf(kind objects.Kind, text []byte) *noted {
	var o struct {
		Status noted `json:"status"`
	}
	if json.Unmarshal(text, &o) != nil {
		return nil
	}
	return o.Status.ours(kind)
}

// noteOfService is noteOf for Services, which come as protobufs.
func noteOfService(s *corev1.Service) *noted {
	var n noted
	for _, c := range s.Status.Conditions {
		if owned(objects.Service, c.Type) {
			n.Conditions = append(n.Conditions, notedCondition{c.Type, string(c.Status), c.Reason, c.Message, generation(c.ObservedGeneration)})
		}
	}
	return n.ours(objects.Service)
}

func (n noted) ours(kind objects.Kind) *noted {
	switch kind {
	case objects.Gateway, objects.GatewayClass: // ours only if wanted
	default:
		n.Conditions = slices.DeleteFunc(n.Conditions, func(c notedCondition) bool { return !owned(kind, c.Type) })
	}
	n.Parents = slices.DeleteFunc(n.Parents, func(p notedParent) bool { return p.Controller != controllerName })
	if kind != objects.ServiceEntry {
		n.Addresses = nil // of a Gateway they are something else
	}
	if len(n.Conditions)+len(n.Listeners)+len(n.Parents)+len(n.Addresses) == 0 {
		return nil
	}
	return &n
}

// says reports that the status holds just what is wanted. A nil one holds nothing.
func (n *noted) says(want objects.Status) bool {
	if n == nil {
		return want.Empty()
	}
	kind := want.Key.Kind
	foreign := kind == objects.Gateway || kind == objects.GatewayClass
	if foreign && want.Empty() {
		return true
	}
	if !sameConditions(n.Conditions, want.Conditions, want.Generation, foreign) {
		return false
	}
	if !slices.EqualFunc(n.Listeners, want.Listeners, func(a notedListener, b objects.ListenerStatus) bool {
		return a.Name == b.Name && a.AttachedRoutes == b.AttachedRoutes && slices.Equal(a.SupportedKinds, b.SupportedKinds) &&
			sameConditions(a.Conditions, b.Conditions, want.Generation, false)
	}) {
		return false
	}
	if !slices.EqualFunc(n.Parents, want.Parents, func(a notedParent, b objects.ParentStatus) bool {
		return a.Ref.parse() == b.Ref && sameConditions(a.Conditions, b.Conditions, want.Generation, false)
	}) {
		return false
	}
	return slices.Equal(sortedAddresses(n.Addresses), sortedAddresses(want.Addresses))
}

// sameConditions compares by type. others allows conditions that are not wanted.
func sameConditions(have []notedCondition, want []objects.Condition, gen int64, others bool) bool {
	if !others && len(have) != len(want) {
		return false
	}
	for _, w := range want {
		i := slices.IndexFunc(have, func(h notedCondition) bool { return h.Type == w.Type })
		if i < 0 {
			return false
		}
		h := have[i]
		if h.Status != statusText(w.Status) || h.Reason != w.Reason || h.Message != w.Message || int64(h.Generation) != gen {
			return false
		}
	}
	return true
}

func sortedAddresses(list []objects.HostAddress) []objects.HostAddress {
	return slices.SortedFunc(slices.Values(list), objects.HostAddress.Compare)
}

func statusText(b bool) string {
	if b {
		return "True"
	}
	return "False"
}

func (r wireRef) parse() objects.ParentRef {
	out := objects.ParentRef{Name: r.Name}
	for _, f := range []struct {
		to   *string
		from *string
	}{{&out.Group, r.Group}, {&out.Kind, r.Kind}, {&out.Namespace, r.Namespace}, {&out.Section, r.Section}} {
		if f.from != nil {
			*f.to = *f.from
		}
	}
	if r.Port != nil {
		out.Port = *r.Port
	}
	return out
}

// ledger remembers what objects' statuses say of the mesh, for those where it is something.
type ledger struct {
	mu      sync.Mutex
	notes   map[objects.Key]*noted
	changed func(objects.Key) // nil, or told of each change
}

func newLedger() *ledger { return &ledger{notes: map[objects.Key]*noted{}} }

func (l *ledger) set(key objects.Key, n *noted) {
	l.mu.Lock()
	_, was := l.notes[key]
	if n == nil {
		delete(l.notes, key)
	} else {
		l.notes[key] = n
	}
	tell := l.changed
	l.mu.Unlock()
	if tell != nil && (was || n != nil) {
		tell(key)
	}
}

func (l *ledger) get(key objects.Key) *noted {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.notes[key]
}

func (l *ledger) keys() []objects.Key {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]objects.Key, 0, len(l.notes))
	for k := range l.notes {
		out = append(out, k)
	}
	return out
}

// watch sets who is told of changes; nil for nobody.
func (l *ledger) watch(f func(objects.Key)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changed = f
}
