package translate

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	networkingapi "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ambit-mesh/ambit/controller/api/workload"
	"github.com/ambit-mesh/ambit/controller/objects"
)

// serviceEntry makes a service of each host the entry holds, and a workload of each endpoint written in it.
func (t *Translator) serviceEntry(key objects.Key) unit {
	se := get[*networkingv1.ServiceEntry](&t.in, key.Kind, key.Namespace, key.Name)
	var u unit
	b := t.serviceBinding(key, se)
	auto := t.autoAddresses(key, se)
	u.extra = &objects.Status{Addresses: hostAddresses(auto)}
	var held, taken []string
	for _, host := range se.Spec.Hosts {
		if !t.publishes(key, se, host) {
			continue
		}
		if holder := t.winner(key.Namespace, host); holder != key {
			taken = append(taken, clip(host)+" is held by "+holder.String())
			continue
		}
		held = append(held, host)
		u.addresses = append(u.addresses, serviceAddress(t.entryService(key, se, host, b, auto[host])))
	}
	u.conditions = append(t.withGuard(key, b.conditions), t.entryConditions(key, se, b, taken)...)
	if len(held) > 0 {
		u.addresses = append(u.addresses, t.entryWorkloads(se, held)...)
	}
	return u
}

// publishes: a wildcard names no address to connect to, unless the name is resolved per connection; and the mesh may let
// nobody see an entry.
func (t *Translator) publishes(key objects.Key, se *networkingv1.ServiceEntry, host string) bool {
	return (!wildcard(host) || se.Spec.Resolution == networkingapi.ServiceEntry_DYNAMIC_DNS) && t.scopeOf(key) != nobody
}

func wildcard(host string) bool { return strings.Contains(host, "*") }

const (
	conditionPublished = "ambit.io/Published"
	conditionMissing   = "istio.io/WaypointMissing"
	annotConnect       = "istio.io/connect-strategy"
)

// entryConditions tell what of an entry does not work as written. taken says which of its hosts are somebody else's.
func (t *Translator) entryConditions(key objects.Key, se *networkingv1.ServiceEntry, b binding, taken []string) []objects.Condition {
	out := t.visibilityConditions(key, se)
	wild := slices.ContainsFunc(se.Spec.Hosts, wildcard)
	const most = 10
	why, reason := taken, "HostTaken"
	if len(why) > most {
		why = append(why[:most:most], fmt.Sprintf("and %d more", len(taken)-most))
	}
	if wild && se.Spec.Resolution != networkingapi.ServiceEntry_DYNAMIC_DNS {
		wild = false
		why, reason = append(why, "hosts with a wildcard are not published: they need resolution DYNAMIC_DNS"), "WildcardHost"
	}
	if len(why) > 0 {
		out = append(out, objects.Condition{Type: conditionPublished, Reason: reason, Message: strings.Join(why, "; ")})
	}
	if len(b.gateways) > 0 {
		return out
	}
	switch {
	case wild:
		out = append(out, objects.Condition{
			Type: conditionMissing, Status: true, Reason: "NoWaypointForWildcardService",
			Message: "hosts with a wildcard have no effect until the entry is bound to a waypoint",
		})
	case se.Annotations[annotConnect] == "RACE_FIRST_TCP_CONNECT":
		out = append(out, objects.Condition{
			Type: conditionMissing, Status: true, Reason: "NoWaypointForRacingConnectStrategy",
			Message: "the connect strategy has no effect until the entry is bound to a waypoint",
		})
	}
	return out
}

func (t *Translator) entryService(key objects.Key, se *networkingv1.ServiceEntry, host string, b binding, auto []netip.Addr) *workload.Service {
	out := &workload.Service{
		Name:            se.Name,
		Namespace:       se.Namespace,
		Hostname:        host,
		Addresses:       t.entryAddresses(se, auto),
		SubjectAltNames: se.Spec.SubjectAltNames,
		Waypoint:        b.waypoint,
		Canonical:       t.canonical(host) == key,
		LoadBalancing:   distribution(firstOf(se.Annotations[annotDistribution], t.spaceAnnotations(se.Namespace)[annotDistribution])),
	}
	out.WeightedWaypoints, out.IngressUseWaypoint = b.weighted, t.ingress(b, se)
	if t.scopeOf(key) == ownNamespace {
		out.Visibility = workload.Service_NAMESPACE
	}
	if se.Spec.Resolution == networkingapi.ServiceEntry_NONE {
		out.LoadBalancing = &workload.LoadBalancing{Mode: workload.LoadBalancing_PASSTHROUGH, HealthPolicy: workload.LoadBalancing_ALLOW_ALL}
	}
	for _, p := range se.Spec.Ports {
		out.Ports = append(out.Ports, &workload.Port{
			ServicePort: p.Number, TargetPort: firstNonZero(p.TargetPort, p.Number), AppProtocol: entryProtocol(p),
		})
	}
	return out
}

// entryProtocol reads a port's protocol field, which is spelled in upper case, and else its name.
func entryProtocol(p *networkingapi.ServicePort) workload.AppProtocol {
	return namedProtocol(firstOf(p.Protocol, p.Name), int32(min(p.Number, 65535)))
}

// entryAddresses are those the entry brings, or else the automatic ones.
func (t *Translator) entryAddresses(se *networkingv1.ServiceEntry, auto []netip.Addr) []*workload.NetworkAddress {
	var out []*workload.NetworkAddress
	for _, s := range se.Spec.Addresses {
		prefix, err := netip.ParsePrefix(s)
		if err != nil {
			for _, a := range appendAddress(nil, s) {
				out = append(out, &workload.NetworkAddress{Network: t.set.Network, Address: a})
			}
			continue
		}
		na := &workload.NetworkAddress{Network: t.set.Network, Address: prefix.Masked().Addr().AsSlice()}
		if !prefix.IsSingleIP() {
			na.Length = proto.Uint32(uint32(prefix.Bits()))
		}
		out = append(out, na)
	}
	for _, a := range auto { // none beside the entry's own
		out = append(out, &workload.NetworkAddress{Network: t.set.Network, Address: a.AsSlice()})
	}
	return out
}

// entryWorkloads makes the endpoints written in the entry; an entry resolved by DNS that has none is its own endpoint.
func (t *Translator) entryWorkloads(se *networkingv1.ServiceEntry, held []string) []*workload.Address {
	var out []*workload.Address
	seen := set[string]{}
	add := func(address string, ep *networkingapi.WorkloadEntry, hosts []string) {
		if address == "" || strings.HasPrefix(address, "unix:") || seen.has(address) {
			return
		}
		seen.add(address)
		out = append(out, workloadAddress(t.entryEndpoint(se, address, ep, hosts)))
	}
	for _, ep := range se.Spec.Endpoints {
		add(firstOf(ep.Address, ep.Network), ep, held) // one without an address is behind its network's gateway
	}
	if len(se.Spec.Endpoints) == 0 && se.Spec.WorkloadSelector == nil && byDNS(se.Spec.Resolution) {
		for _, host := range held {
			add(host, &networkingapi.WorkloadEntry{Address: host}, []string{host})
		}
	}
	return out
}

func byDNS(r networkingapi.ServiceEntry_Resolution) bool {
	return r == networkingapi.ServiceEntry_DNS || r == networkingapi.ServiceEntry_DNS_ROUND_ROBIN || r == networkingapi.ServiceEntry_DYNAMIC_DNS
}

func (t *Translator) entryEndpoint(se *networkingv1.ServiceEntry, address string, ep *networkingapi.WorkloadEntry, hosts []string) *workload.Workload {
	w := &workload.Workload{
		Uid:                   t.set.ClusterID + "/networking.istio.io/ServiceEntry/" + se.Namespace + "/" + se.Name + "/" + address,
		Name:                  se.Name,
		Namespace:             se.Namespace,
		WorkloadName:          se.Name,
		AuthorizationPolicies: t.policiesOf(se.Namespace, se.Labels),
		Services:              map[string]*workload.PortList{},
	}
	t.fromEntry(w, ep)
	if len(se.Spec.Endpoints) > 0 { // bound as an object with the endpoint's labels would be
		w.Waypoint = t.workloadBinding(&metav1.ObjectMeta{Name: se.Name, Namespace: se.Namespace, Labels: ep.Labels}).waypoint
	}
	ports := &workload.PortList{}
	for _, sp := range se.Spec.Ports {
		ports.Ports = append(ports.Ports, &workload.Port{ServicePort: sp.Number, TargetPort: firstNonZero(ep.Ports[sp.Name], sp.TargetPort, sp.Number)})
	}
	for _, host := range hosts {
		w.Services[se.Namespace+"/"+host] = ports
	}
	t.common(w, ep.Labels)
	return w
}
