package objects

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// CompactPod is what the controller reads of a Pod: facts of the API, named as there, nothing derived. Of the metadata it has
// name, generateName, namespace, uid, resourceVersion, timestamps, labels and the mesh's annotations. Maps and slices may be
// shared with other pods.
type CompactPod struct {
	metav1.ObjectMeta

	NodeName           string
	ServiceAccountName string
	Phase              corev1.PodPhase
	Owner              Owner
	IPs                []netip.Addr // status.podIPs, or status.podIP without those; what is no address is left out
	Ports              []NamedPort  // TCP, of containers and of init containers that stay
	HostNetwork        bool
	Ready              bool
}

// Owner is the controlling owner reference; empty without one.
type Owner struct{ Kind, Name string }

// NamedPort is a TCP port by the name that Services use for it. A Service's slice may have ports without a name.
type NamedPort struct {
	Name   string
	Number uint16
}

// Ended reports a pod that runs no more: its address may be another's.
func (p *CompactPod) Ended() bool {
	return p.Phase == corev1.PodSucceeded || p.Phase == corev1.PodFailed
}

// GetObjectKind implements runtime.Object. The kind is known by the Go type.
func (p *CompactPod) GetObjectKind() schema.ObjectKind { return schema.EmptyObjectKind }

// DeepCopyObject implements runtime.Object.
func (p *CompactPod) DeepCopyObject() runtime.Object {
	out := *p
	p.DeepCopyInto(&out.ObjectMeta)
	out.IPs, out.Ports = slices.Clone(p.IPs), slices.Clone(p.Ports)
	return &out
}

// CompactSlice is what the controller reads of an EndpointSlice.
type CompactSlice struct {
	metav1.ObjectMeta

	AddressType discoveryv1.AddressType
	Ports       []NamedPort // TCP
	Endpoints   []CompactEndpoint
}

// CompactEndpoint is one endpoint: of a pod it has the name and no address, of all others the addresses.
type CompactEndpoint struct {
	Pod       string // of the slice's namespace: a slice cannot adopt pods of other ones
	PodUID    types.UID
	Addresses []netip.Addr // what is no address is left out
	NotReady  bool
}

// GetObjectKind implements runtime.Object. The kind is known by the Go type.
func (s *CompactSlice) GetObjectKind() schema.ObjectKind { return schema.EmptyObjectKind }

// DeepCopyObject implements runtime.Object.
func (s *CompactSlice) DeepCopyObject() runtime.Object {
	out := *s
	s.DeepCopyInto(&out.ObjectMeta)
	out.Ports, out.Endpoints = slices.Clone(s.Ports), slices.Clone(s.Endpoints)
	for i := range out.Endpoints {
		out.Endpoints[i].Addresses = slices.Clone(out.Endpoints[i].Addresses)
	}
	return &out
}
