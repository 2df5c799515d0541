package state

import (
	"net/netip"

	"github.com/ambit-mesh/ambit/controller/api/spiffe"
)

// NetworkAddr is an address within a named network ("" is the default one).
type NetworkAddr struct {
	Network string
	IP      netip.Addr
}

// NetworkPrefix is a range of virtual addresses within a network.
type NetworkPrefix struct {
	Network string
	Prefix  netip.Prefix // masked
}

// Gateway refers to a waypoint or network gateway: by name (preferred) or by address. Exactly one is set.
type Gateway struct {
	Host Key // namespace and hostname of a service, or of a workload
	Addr NetworkAddr
	Port uint16 // where it takes HBONE
}

// ByHost reports whether the reference is by name.
func (g *Gateway) ByHost() bool { return g.Host != (Key{}) }

// WeightedGateway is one of several waypoints.
type WeightedGateway struct {
	Gateway Gateway
	Weight  uint32
}

// Scope is one step of a locality preference, with the numbers of the wire.
type Scope uint8

// The locality scopes.
const (
	ScopeRegion Scope = iota + 1
	ScopeZone
	ScopeSubzone
	ScopeNode
	ScopeCluster
	ScopeNetwork
)

// Mode is what a locality preference does, with the numbers of the wire.
type Mode uint8

// The load-balancing modes.
const (
	ModeAny         Mode = iota // every endpoint alike
	ModeStrict                  // only endpoints that match every preference
	ModeFailover                // the endpoints that match best
	ModePassthrough             // the destination address as it is
)

// Families restricts the addresses by which a service is reached, with the numbers of the wire.
type Families uint8

// The family sets.
const (
	FamiliesAny Families = iota
	FamiliesIPv4
	FamiliesIPv6
	FamiliesDual
)

// Accepts reports whether addresses of ip's family may be used.
func (f Families) Accepts(ip netip.Addr) bool {
	switch f {
	case FamiliesIPv4:
		return ip.Is4()
	case FamiliesIPv6:
		return ip.Is6()
	default:
		return true
	}
}

// Balancing is a service's load-balancing policy. The zero value is any healthy endpoint.
type Balancing struct {
	Preference []Scope
	Mode       Mode
	AllowAll   bool // unhealthy endpoints count too
}

// Service is a name, usually with virtual addresses, that stands for workloads.
type Service struct {
	Name       string
	Namespace  string
	Hostname   string // fully qualified
	VIPs       []NetworkAddr
	CIDRs      []NetworkPrefix
	Ports      []Port
	SANs       []spiffe.ID // accepted besides the endpoints' own identities
	Waypoint   *Gateway    // nil: none
	Waypoints  []WeightedGateway
	Balancing  Balancing
	Families   Families
	Canonical  bool // what other namespaces mean by the hostname or address
	Restricted bool // visible to clients of its own namespace only
}

// Key names the service.
func (s *Service) Key() Key { return Key{Namespace: s.Namespace, Name: s.Hostname} }

// VisibleTo reports whether clients of a namespace may use the service.
func (s *Service) VisibleTo(namespace string) bool { return !s.Restricted || s.Namespace == namespace }

// Port finds the mapping of a service port.
func (s *Service) Port(port uint16) (Port, bool) {
	for _, p := range s.Ports {
		if p.Service == port {
			return p, true
		}
	}
	return Port{}, false
}
