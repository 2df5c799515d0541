package ztunnelclient

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// Workload is a workload with ztunnel's defaults applied.
type Workload struct {
	UID, Name, Namespace, Hostname   string
	Addresses                        []netip.Addr
	Network, ClusterID, Node         string
	TunnelProtocol                   string // NONE, HBONE or LEGACY_ISTIO_MTLS
	NativeTunnel                     bool
	TrustDomain, ServiceAccount      string
	CanonicalName, CanonicalRevision string
	WorkloadType, WorkloadName       string
	Waypoint, NetworkGateway         *Gateway
	AuthorizationPolicies            []string
	Healthy, HostNetwork             bool
	Services                         map[string][]Port // by namespace/hostname
	Region, Zone, Subzone            string
	ApplicationTunnel                string // NONE or PROXY
	ApplicationTunnelPort            uint16
	Capacity                         uint32
}

// Identity is the workload's SPIFFE id.
func (w *Workload) Identity() string {
	return "spiffe://" + w.TrustDomain + "/ns/" + w.Namespace + "/sa/" + w.ServiceAccount
}

// Port is a service's port and the endpoint's; TargetPort 0 in a Service means the endpoint's.
type Port struct {
	Port, TargetPort uint16
	AppProtocol      string
}

// Gateway is a waypoint or network gateway: a service by name, or an address.
type Gateway struct {
	Namespace, Hostname string
	Address             *VIP
	HBONEPort           uint16
}

// VIP is an address, or a range of them, in a network.
type VIP struct {
	Network string
	Prefix  netip.Prefix // of full length unless a length was given
}

// Service is a service.
type Service struct {
	Name, Namespace, Hostname        string
	Addresses                        []VIP
	Ports                            []Port
	SubjectAltNames                  []string
	Waypoint                         *Gateway
	RoutingPreference                []string
	LBMode, HealthPolicy, IPFamilies string
	Canonical, IngressUseWaypoint    bool
	Private                          bool // visible in its namespace only
}

var (
	scopes     = []string{"UNSPECIFIED_SCOPE", "REGION", "ZONE", "SUBZONE", "NODE", "CLUSTER", "NETWORK"}
	modes      = []string{"UNSPECIFIED_MODE", "STRICT", "FAILOVER", "PASSTHROUGH"}
	health     = []string{"ONLY_HEALTHY", "ALLOW_ALL"}
	families   = []string{"AUTOMATIC", "IPV4_ONLY", "IPV6_ONLY", "DUAL"}
	protocols  = []string{"NONE", "HBONE", "LEGACY_ISTIO_MTLS"}
	kinds      = []string{"DEPLOYMENT", "CRONJOB", "POD", "JOB"}
	statuses   = []string{"HEALTHY", "UNHEALTHY"}
	netModes   = []string{"STANDARD", "HOST_NETWORK"}
	appProtos  = []string{"UNKNOWN", "HTTP11", "HTTP2", "GRPC", "TCP", "TLS"}
	appTunnels = []string{"NONE", "PROXY"}
)

// enum rejects what is not in the list.
func enum(names []string, v uint64) (string, error) {
	if v >= uint64(len(names)) {
		return "", fmt.Errorf("unknown enum value %d", v)
	}
	return names[v], nil
}

// decoder notes fields it does not know.
type decoder struct{ unknown map[string]bool }

func (d decoder) skip(message string, f field) {
	d.unknown[fmt.Sprintf("%s.%d", message, f.num)] = true
}

// address is a oneof: workload=1 service=2.
func (d decoder) address(data []byte) (w *Workload, s *Service, err error) {
	err = each(data, func(f field) (err error) {
		switch f.num {
		case 1:
			s = nil
			w, err = d.workload(f.bytes)
		case 2:
			w = nil
			s, err = d.service(f.bytes)
		default:
			d.skip("Address", f)
		}
		return err
	})
	if err == nil && w == nil && s == nil {
		err = errors.New("neither workload nor service")
	}
	return w, s, err
}

func ipOf(b []byte) (netip.Addr, error) {
	a, ok := netip.AddrFromSlice(b)
	if !ok {
		return a, fmt.Errorf("address of %d bytes", len(b))
	}
	return a, nil
}

func (d decoder) workload(data []byte) (*Workload, error) {
	w := &Workload{
		TrustDomain: "cluster.local", ServiceAccount: "default", ClusterID: "Kubernetes", Capacity: 1, Healthy: true,
		TunnelProtocol: "NONE", WorkloadType: "DEPLOYMENT", ApplicationTunnel: "NONE", Services: map[string][]Port{},
	}
	err := each(data, func(f field) (err error) {
		switch f.num {
		case 1:
			w.Name = f.str()
		case 2:
			w.Namespace = f.str()
		case 3:
			var a netip.Addr
			if a, err = ipOf(f.bytes); err == nil {
				w.Addresses = append(w.Addresses, a)
			}
		case 4:
			w.Network = f.str()
		case 5:
			w.TunnelProtocol, err = enum(protocols, f.varint)
		case 6:
			w.TrustDomain = f.str()
		case 7:
			w.ServiceAccount = f.str()
		case 8:
			w.Waypoint, err = d.gateway(f.bytes)
		case 9:
			w.Node = f.str()
		case 10:
			w.CanonicalName = f.str()
		case 11:
			w.CanonicalRevision = f.str()
		case 12:
			w.WorkloadType, err = enum(kinds, f.varint)
		case 13:
			w.WorkloadName = f.str()
		case 14:
			w.NativeTunnel = f.varint != 0
		case 16:
			w.AuthorizationPolicies = append(w.AuthorizationPolicies, f.str())
		case 17:
			var s string
			s, err = enum(statuses, f.varint)
			w.Healthy = s == "HEALTHY"
		case 18:
			w.ClusterID = f.str()
		case 19:
			w.NetworkGateway, err = d.gateway(f.bytes)
		case 20:
			w.UID = f.str()
		case 21:
			w.Hostname = f.str()
		case 22:
			err = d.membership(w, f.bytes)
		case 23:
			err = d.appTunnel(w, f.bytes)
		case 24:
			err = d.locality(w, f.bytes)
		case 25:
			var m string
			m, err = enum(netModes, f.varint)
			w.HostNetwork = m == "HOST_NETWORK"
		case 26: // extensions
		case 27:
			err = each(f.bytes, func(f field) error { w.Capacity = uint32(f.varint); return nil })
		default:
			d.skip("Workload", f)
		}
		return err
	})
	return w, err
}

// membership is an entry of services: key=1, value=2 PortList{ports=1}.
func (d decoder) membership(w *Workload, data []byte) error {
	var key string
	var ports []Port
	err := each(data, func(f field) error {
		if f.num == 1 {
			key = f.str()
			return nil
		}
		return each(f.bytes, func(f field) error {
			p, err := d.port(f.bytes)
			ports = append(ports, p)
			return err
		})
	})
	if err == nil && !strings.Contains(key, "/") {
		err = fmt.Errorf("service key %q without a namespace", key)
	}
	w.Services[key] = ports
	return err
}

// port is service_port=1 target_port=2 app_protocol=3.
func (d decoder) port(data []byte) (p Port, err error) {
	p.AppProtocol = "UNKNOWN"
	err = each(data, func(f field) (err error) {
		switch f.num {
		case 1:
			p.Port = uint16(f.varint)
		case 2:
			p.TargetPort = uint16(f.varint)
		case 3:
			p.AppProtocol, err = enum(appProtos, f.varint)
		default:
			d.skip("Port", f)
		}
		return err
	})
	return p, err
}

func (d decoder) appTunnel(w *Workload, data []byte) error {
	return each(data, func(f field) (err error) {
		switch f.num {
		case 1:
			w.ApplicationTunnel, err = enum(appTunnels, f.varint)
		case 2:
			w.ApplicationTunnelPort = uint16(f.varint)
		default:
			d.skip("ApplicationTunnel", f)
		}
		return err
	})
}

func (d decoder) locality(w *Workload, data []byte) error {
	return each(data, func(f field) error {
		switch f.num {
		case 1:
			w.Region = f.str()
		case 2:
			w.Zone = f.str()
		case 3:
			w.Subzone = f.str()
		default:
			d.skip("Locality", f)
		}
		return nil
	})
}

// gateway is a oneof hostname=1 (namespace=1 hostname=2) or address=2, and hbone_mtls_port=3. Without a destination it is
// rejected.
func (d decoder) gateway(data []byte) (*Gateway, error) {
	g := &Gateway{}
	set := false
	err := each(data, func(f field) error {
		switch f.num {
		case 1:
			set, g.Address = true, nil
			return each(f.bytes, func(f field) error {
				switch f.num {
				case 1:
					g.Namespace = f.str()
				case 2:
					g.Hostname = f.str()
				default:
					d.skip("NamespacedHostname", f)
				}
				return nil
			})
		case 2:
			v, err := d.vip(f.bytes)
			set, g.Address = true, &v
			return err
		case 3:
			g.HBONEPort = uint16(f.varint)
		default:
			d.skip("GatewayAddress", f)
		}
		return nil
	})
	if err == nil && !set {
		err = errors.New("gateway without a destination")
	}
	return g, err
}

// vip is network=1 address=2 length=3, the length optional.
func (d decoder) vip(data []byte) (v VIP, err error) {
	var addr netip.Addr
	length := -1
	err = each(data, func(f field) (err error) {
		switch f.num {
		case 1:
			v.Network = f.str()
		case 2:
			addr, err = ipOf(f.bytes)
		case 3:
			length = int(f.varint)
		default:
			d.skip("NetworkAddress", f)
		}
		return err
	})
	if err != nil {
		return v, err
	}
	if !addr.IsValid() {
		return v, errors.New("network address without an address")
	}
	if length < 0 {
		length = addr.BitLen()
	}
	v.Prefix = netip.PrefixFrom(addr, length)
	if !v.Prefix.IsValid() {
		return v, fmt.Errorf("prefix length %d", length)
	}
	return v, nil
}

func (d decoder) service(data []byte) (*Service, error) {
	s := &Service{LBMode: modes[0], HealthPolicy: health[0], IPFamilies: families[0]}
	err := each(data, func(f field) (err error) {
		switch f.num {
		case 1:
			s.Name = f.str()
		case 2:
			s.Namespace = f.str()
		case 3:
			s.Hostname = f.str()
		case 4:
			var v VIP
			v, err = d.vip(f.bytes)
			s.Addresses = append(s.Addresses, v)
		case 5:
			var p Port
			p, err = d.port(f.bytes)
			s.Ports = append(s.Ports, p)
		case 6:
			s.SubjectAltNames = append(s.SubjectAltNames, f.str())
		case 7:
			s.Waypoint, err = d.gateway(f.bytes)
		case 8:
			err = d.loadBalancing(s, f.bytes)
		case 9:
			s.IPFamilies, err = enum(families, f.varint)
		case 10: // extensions
		case 11:
			s.Canonical = f.varint != 0
		case 12:
			s.IngressUseWaypoint = f.varint != 0
		case 14:
			s.Private = f.varint == 1 // what is unknown is public
		default:
			d.skip("Service", f)
		}
		return err
	})
	return s, err
}

// loadBalancing is routing_preference=1 (packed or not) mode=2 health_policy=3.
func (d decoder) loadBalancing(s *Service, data []byte) error {
	scope := func(v uint64) error {
		name, err := enum(scopes, v)
		if err == nil && v == 0 {
			err = errors.New("unspecified scope in a routing preference")
		}
		s.RoutingPreference = append(s.RoutingPreference, name)
		return err
	}
	return each(data, func(f field) (err error) {
		switch f.num {
		case 1:
			if f.bytes == nil {
				return scope(f.varint)
			}
			return packed(f.bytes, scope)
		case 2:
			s.LBMode, err = enum(modes, f.varint)
		case 3:
			s.HealthPolicy, err = enum(health, f.varint)
		default:
			d.skip("LoadBalancing", f)
		}
		return err
	})
}
