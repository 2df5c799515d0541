package objects

import (
	"cmp"
	"slices"
)

// Condition is what the mesh tells the owner of an object about it.
type Condition struct {
	Type    string `json:"type"`
	Status  bool   `json:"status"`
	Reason  string `json:"reason"`
	Message string `json:"message,omitempty"`
}

// Status is everything the mesh says on one object. What an earlier Status said and this one does not is to be removed.
type Status struct {
	Key Key `json:"-"`
	// Generation is the metadata.generation of the object that was judged; 0 for kinds that have none.
	Generation int64            `json:"generation,omitempty"`
	Conditions []Condition      `json:"conditions,omitempty"`
	Listeners  []ListenerStatus `json:"listeners,omitempty"` // of a Gateway, in the order of its spec
	Parents    []ParentStatus   `json:"parents,omitempty"`   // of a route, in the order of its spec; those of the mesh only
	Addresses  []HostAddress    `json:"addresses,omitempty"` // of a ServiceEntry, as allocated: status.addresses
}

// ListenerStatus is one entry of a Gateway's status.listeners.
type ListenerStatus struct {
	Name           string      `json:"name"`
	AttachedRoutes int32       `json:"attachedRoutes"`
	SupportedKinds []GroupKind `json:"supportedKinds,omitempty"`
	Conditions     []Condition `json:"conditions"`
}

// ParentStatus is one entry of a route's status.parents.
type ParentStatus struct {
	Ref        ParentRef   `json:"parentRef"`
	Conditions []Condition `json:"conditions"`
}

// ParentRef names a route's parent as the route does: what the route leaves out is empty.
type ParentRef struct {
	GroupKind
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
	Section   string `json:"sectionName,omitempty"`
	Port      int32  `json:"port,omitempty"`
}

// GroupKind is a kind with its API group; Group is empty for Kubernetes' core.
type GroupKind struct {
	Group string `json:"group,omitempty"`
	Kind  string `json:"kind"`
}

// HostAddress is an address allocated to a host of a ServiceEntry.
type HostAddress struct {
	Host  string `json:"host"`
	Value string `json:"value"`
}

// Empty reports that there is nothing to say: what was said before is to be removed.
func (s Status) Empty() bool {
	return len(s.Conditions)+len(s.Listeners)+len(s.Parents)+len(s.Addresses) == 0
}

// Equal compares everything, generations too: a condition is news when it is about a newer spec.
func (s Status) Equal(o Status) bool {
	return s.Key == o.Key && s.Generation == o.Generation && slices.Equal(s.Conditions, o.Conditions) && slices.Equal(s.Addresses, o.Addresses) &&
		slices.EqualFunc(s.Listeners, o.Listeners, func(a, b ListenerStatus) bool {
			return a.Name == b.Name && a.AttachedRoutes == b.AttachedRoutes && slices.Equal(a.SupportedKinds, b.SupportedKinds) &&
				slices.Equal(a.Conditions, b.Conditions)
		}) &&
		slices.EqualFunc(s.Parents, o.Parents, func(a, b ParentStatus) bool {
			return a.Ref == b.Ref && slices.Equal(a.Conditions, b.Conditions)
		})
}

// Compare orders addresses by host, then value.
func (a HostAddress) Compare(b HostAddress) int {
	return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.Value, b.Value))
}
