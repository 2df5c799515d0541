// Package pods answers what the agent knows of its node: which pods there are, which namespaces, and what each says about
// itself. It is data only: agent/source makes it from Kubernetes objects, agent/enroll judges it, the agent acts on it. It
// reads nothing and decides nothing.
//
// A Set is immutable once published and may be shared by any number of goroutines.
package pods

import (
	"net/netip"
	"slices"
	"strings"
)

// UID is a pod's metadata.uid: the only name of a pod that is never used twice.
type UID string

// Key is a pod's namespace and name, which a successor may carry too.
type Key struct{ Namespace, Name string }

func (k Key) String() string { return k.Namespace + "/" + k.Name }

// Phase is a pod's status.phase.
type Phase string

// The phases in which no container will run again.
const (
	Succeeded Phase = "Succeeded"
	Failed    Phase = "Failed"
)

// Pod is one pod of this node.
type Pod struct {
	UID            UID
	Key            Key
	ServiceAccount string
	Labels         map[string]string
	Annotations    map[string]string
	HostNetwork    bool
	Phase          Phase
	Deleting       bool         // has a deletionTimestamp: still runs, and still is protected
	IPs            []netip.Addr // empty until published; never mapped
	Ports          []uint16     // that its containers declare, TCP and UDP
	ProbePorts     []uint16     // that the kubelet connects to, sorted, each once
	Nameservers    []netip.Addr // of dnsConfig where dnsPolicy is None, else unknown and empty
}

// Done tells whether no container of the pod will run again.
func (p *Pod) Done() bool { return p.Phase == Succeeded || p.Phase == Failed }

// Namespace is a namespace with what the mesh reads of it.
type Namespace struct {
	Name   string
	Labels map[string]string
}

// Set is everything known at one time: the pods of one node, and all namespaces.
type Set struct {
	pods       []Pod
	byUID      map[UID]int
	namespaces map[string]Namespace
}

// NewSet makes a Set, which owns what it is given. Of two pods with one UID the later counts.
func NewSet(list []Pod, namespaces []Namespace) *Set {
	s := &Set{byUID: make(map[UID]int, len(list)), namespaces: make(map[string]Namespace, len(namespaces))}
	for _, p := range list {
		if i, again := s.byUID[p.UID]; again {
			s.pods[i] = p
			continue
		}
		s.byUID[p.UID] = len(s.pods)
		s.pods = append(s.pods, p)
	}
	slices.SortFunc(s.pods, func(a, b Pod) int { return strings.Compare(string(a.UID), string(b.UID)) })
	for i := range s.pods {
		s.byUID[s.pods[i].UID] = i
	}
	for _, n := range namespaces {
		s.namespaces[n.Name] = n
	}
	return s
}

// Pods are all pods, by UID. Not to be written to.
func (s *Set) Pods() []Pod { return s.pods }

// ByUID finds a pod.
func (s *Set) ByUID(uid UID) (*Pod, bool) {
	i, ok := s.byUID[uid]
	if !ok {
		return nil, false
	}
	return &s.pods[i], true
}

// ByKey finds the pod that carries a name now: the one that still runs, if a finished one of that name lingers.
func (s *Set) ByKey(k Key) (*Pod, bool) {
	var found *Pod
	for i := range s.pods {
		p := &s.pods[i]
		if p.Key == k && (found == nil || found.Done() || found.Deleting) {
			found = p
		}
	}
	return found, found != nil
}

// Namespace finds a namespace.
func (s *Set) Namespace(name string) (*Namespace, bool) {
	n, ok := s.namespaces[name]
	if !ok {
		return nil, false
	}
	return &n, true
}
