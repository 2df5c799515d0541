// Package state answers what this node knows of the mesh: workloads, services and authorization policies, as one
// immutable Snapshot that all decisions about one connection are made from.
//
// It decides nothing: policy and route do, over the data held here. It reads no wire format: xds does. The Store has a
// single writer (calls of Apply are serialised); everybody else loads a Snapshot, which never changes and may be read
// from any goroutine without a lock. Values reached from a Snapshot must not be modified by anyone.
//
// References resolve when a snapshot is built: a workload that names a policy which is not there is marked so, and
// endpoints whose service has not arrived yet wait in a set of their own.
package state

import (
	"log/slog"
	"strings"
)

// Key names a service (namespace and hostname) or a policy (namespace and name).
type Key struct {
	Namespace string
	Name      string
}

// String is "namespace/name", or "" for the zero value.
func (k Key) String() string {
	if k == (Key{}) {
		return ""
	}
	return k.Namespace + "/" + k.Name
}

// LogValue is the same as String.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.String()) }

// Compare orders keys by namespace, then name.
func (k Key) Compare(o Key) int {
	if c := strings.Compare(k.Namespace, o.Namespace); c != 0 {
		return c
	}
	return strings.Compare(k.Name, o.Name)
}

// ParseKey reads "namespace/name". The name may not contain a slash; neither part may be empty.
func ParseKey(s string) (Key, bool) {
	ns, name, ok := strings.Cut(s, "/")
	if !ok || ns == "" || name == "" || strings.Contains(name, "/") {
		return Key{}, false
	}
	return Key{Namespace: ns, Name: name}, true
}
