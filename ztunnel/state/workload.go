package state

import (
	"log/slog"
	"net/netip"
	"slices"

	"github.com/ambit-mesh/ambit/controller/api/spiffe"
)

// Tunnel is how a workload is reached.
type Tunnel uint8

// The tunnel protocols. A workload without one is dialled in plain text.
const (
	TunnelNone Tunnel = iota
	TunnelHBONE
)

// Kind is the Kubernetes object behind a workload, as metrics and baggage name it.
type Kind uint8

// The kinds, with the numbers of the wire.
const (
	KindDeployment Kind = iota
	KindCronJob
	KindPod
	KindJob
)

// AppTunnel is how a workload that is itself a proxy wants connections (ztunnel.md 2.9). The zero value is none.
type AppTunnel struct {
	Present bool
	Proxy   bool   // a PROXY protocol v2 header precedes the payload
	Port    uint16 // replaces the target port; 0 keeps it
}

// Port maps a service's port to the workload's. Target 0 means that the other side (endpoint or service) says.
type Port struct {
	Service, Target uint16
}

// Membership says that a workload is an endpoint of a service, and under which ports.
type Membership struct {
	Service Key
	Ports   []Port
}

// Target is the workload's port for a service port, or 0.
func (m Membership) Target(service uint16) uint16 {
	for _, p := range m.Ports {
		if p.Service == service {
			return p.Target
		}
	}
	return 0
}

// Profile is what the replicas of one deployment have in common. Equal profiles share one value within a Store, so
// that a hundred thousand workloads stay small.
type Profile struct {
	Namespace         string
	TrustDomain       string
	ServiceAccount    string
	Network           string
	ClusterID         string
	CanonicalName     string
	CanonicalRevision string
	Controller        string // the deployment, job or the like; read it by [Workload.WorkloadName]
	Bare              bool   // there is none: the workload's own name stands for it, and is not kept here
	Kind              Kind
	Tunnel            Tunnel
	HostNetwork       bool // shares its node's address: never found by address
	NativeTunnel      bool
	AppTunnel         AppTunnel
	Hostname          string   // to be resolved by DNS when there is no address
	Waypoint          *Gateway // nil: none
	Gateway           *Gateway // the way into the workload's network; nil: none
	Policies          []Key    // selector policies that apply, sorted
	Services          []Membership
}

// Place is where a workload runs; the workloads of a node share one value.
type Place struct {
	Node, Region, Zone, Subzone string
}

// Workload is one endpoint of the mesh, usually a pod. Profile and Place are never nil in a Snapshot.
type Workload struct {
	UID       string // unique in the mesh: cluster//Pod/namespace/name and the like
	Name      string
	Addresses []netip.Addr // never IPv4-mapped
	*Profile
	*Place
	Capacity  uint32 // weight in load balancing; 0 receives nothing
	Unhealthy bool
}

// WorkloadName is the name of the deployment, job or the like, or that of the workload where there is none, as for a bare pod.
func (w *Workload) WorkloadName() string {
	if w.Bare {
		return w.Name
	}
	return w.Controller
}

// Identity is the SPIFFE id that the workload's certificate must carry.
func (w *Workload) Identity() spiffe.ID {
	return spiffe.ID{TrustDomain: w.TrustDomain, Namespace: w.Namespace, ServiceAccount: w.ServiceAccount}
}

// Has reports whether ip is one of the workload's addresses.
func (w *Workload) Has(ip netip.Addr) bool { return slices.Contains(w.Addresses, ip) }

// Membership is the workload's part in a service.
func (w *Workload) Membership(service Key) (Membership, bool) {
	for _, m := range w.Services {
		if m.Service == service {
			return m, true
		}
	}
	return Membership{}, false
}

// LogValue is "namespace/name".
func (w *Workload) LogValue() slog.Value {
	if w == nil {
		return slog.StringValue("unknown")
	}
	return slog.StringValue(w.Namespace + "/" + w.Name)
}
