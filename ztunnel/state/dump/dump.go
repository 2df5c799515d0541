// Package dump answers how a snapshot reads as the JSON of a ztunnel's config dump, and back: Of writes, Snapshot rebuilds.
//
// The names and shapes are those of Istio's ztunnel, so that istioctl can read them; what Istio's lacks and a replay
// needs has fields of its own. It decides nothing. admin serves it, `ambit why` replays it through route and policy, so
// that the command answers with the code that decided. All functions are pure.
package dump

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/ambit-mesh/ambit/ztunnel/state"
)

// Document is the part of a config dump that describes a snapshot.
type Document struct {
	Workloads []Workload `json:"workloads"`
	Services  []Service  `json:"services"`
	Policies  []Policy   `json:"policies"`
	// Snapshot is ours: without it (a dump of Istio's ztunnel) the state counts as synced, version unknown.
	Snapshot *Snapshot `json:"snapshot,omitempty"`
}

// Snapshot is what belongs to no single object.
type Snapshot struct {
	Version uint64         `json:"version"`
	Synced  bool           `json:"synced"`
	Node    string         `json:"node"`
	Network string         `json:"network"`
	Ranges  []netip.Prefix `json:"ranges,omitempty"`
}

// Gateway is a reference to a waypoint or network gateway: "network/ip" or "namespace/hostname".
type Gateway struct {
	Destination   string `json:"destination"`
	HBONEMTLSPort uint16 `json:"hboneMtlsPort"`
}

// WeightedGateway is one of several waypoints.
type WeightedGateway struct {
	Destination Gateway `json:"destination"`
	Weight      uint32  `json:"weight"`
}

// AppTunnel is how a workload that is a proxy wants connections.
type AppTunnel struct {
	Protocol string `json:"protocol"` // NONE or PROXY
	Port     uint16 `json:"port,omitempty"`
}

// Locality is where a workload runs.
type Locality struct {
	Region  string `json:"region,omitempty"`
	Zone    string `json:"zone,omitempty"`
	Subzone string `json:"subzone,omitempty"`
}

// Ports maps service ports to target ports, 0 where the other side says.
type Ports map[uint16]uint16

// Workload is one endpoint.
type Workload struct {
	UID            string       `json:"uid"`
	Name           string       `json:"name"`
	Namespace      string       `json:"namespace"`
	WorkloadIPs    []netip.Addr `json:"workloadIps"`
	Protocol       string       `json:"protocol"` // TCP or HBONE
	Status         string       `json:"status"`   // Healthy or Unhealthy
	ClusterID      string       `json:"clusterId"`
	Capacity       uint32       `json:"capacity"`
	NetworkMode    string       `json:"networkMode"` // Standard or HostNetwork
	Waypoint       *Gateway     `json:"waypoint,omitempty"`
	NetworkGateway *Gateway     `json:"networkGateway,omitempty"`
	TrustDomain    string       `json:"trustDomain,omitempty"`
	ServiceAccount string       `json:"serviceAccount,omitempty"`
	Network        string       `json:"network,omitempty"`
	WorkloadName   string       `json:"workloadName,omitempty"`
	WorkloadType   string       `json:"workloadType,omitempty"`
	CanonicalName  string       `json:"canonicalName,omitempty"`
	CanonicalRev   string       `json:"canonicalRevision,omitempty"`
	Hostname       string       `json:"hostname,omitempty"`
	Node           string       `json:"node,omitempty"`
	NativeTunnel   bool         `json:"nativeTunnel,omitempty"`
	AppTunnel      *AppTunnel   `json:"applicationTunnel,omitempty"`
	Policies       []string     `json:"authorizationPolicies,omitempty"`
	Locality       *Locality    `json:"locality,omitempty"`
	Services       []string     `json:"services,omitempty"`
	// ServicePorts is ours: the ports under which the workload belongs to each of Services.
	ServicePorts map[string]Ports `json:"servicePorts,omitempty"`
}

// Endpoint is one workload of a service.
type Endpoint struct {
	WorkloadUID string `json:"workloadUid"`
	Port        Ports  `json:"port"`
	Status      string `json:"status"`
}

// CIDR is a range of virtual addresses.
type CIDR struct {
	Network string       `json:"network"`
	CIDR    netip.Prefix `json:"cidr"`
}

// LoadBalancer is a service's load-balancing policy.
type LoadBalancer struct {
	RoutingPreferences []string `json:"routingPreferences"`
	Mode               string   `json:"mode"`
	HealthPolicy       string   `json:"healthPolicy"`
}

// Service is a name that stands for workloads.
type Service struct {
	Name              string              `json:"name"`
	Namespace         string              `json:"namespace"`
	Hostname          string              `json:"hostname"`
	VIPs              []string            `json:"vips"`
	Ports             Ports               `json:"ports"`
	Endpoints         map[string]Endpoint `json:"endpoints"`
	SubjectAltNames   []string            `json:"subjectAltNames"`
	Canonical         bool                `json:"canonical"`
	Visibility        string              `json:"visibility"` // Public or Namespace
	CIDRVIPs          []CIDR              `json:"cidrVips,omitempty"`
	Waypoint          *Gateway            `json:"waypoint,omitempty"`
	WeightedWaypoints []WeightedGateway   `json:"weightedWaypoints,omitempty"`
	LoadBalancer      *LoadBalancer       `json:"loadBalancer,omitempty"`
	IPFamilies        string              `json:"ipFamilies,omitempty"`
}

// Of describes a snapshot, sorted by UID, hostname and key.
func Of(s *state.Snapshot) Document {
	d := Document{
		Workloads: []Workload{}, Services: []Service{}, Policies: []Policy{},
		Snapshot: &Snapshot{Version: s.Version(), Synced: s.Synced(), Node: s.Node(), Network: s.Network(), Ranges: s.Ranges()},
	}
	for w := range s.Workloads() {
		d.Workloads = append(d.Workloads, ofWorkload(w))
	}
	for svc := range s.Services() {
		d.Services = append(d.Services, ofService(svc, s.Endpoints(svc.Key())))
	}
	for p := range s.Policies() {
		d.Policies = append(d.Policies, ofPolicy(p))
	}
	slices.SortFunc(d.Workloads, func(a, b Workload) int { return cmp.Compare(a.UID, b.UID) })
	slices.SortFunc(d.Services, func(a, b Service) int {
		return cmp.Or(cmp.Compare(a.Hostname, b.Hostname), cmp.Compare(a.Namespace, b.Namespace))
	})
	slices.SortFunc(d.Policies, func(a, b Policy) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return d
}
