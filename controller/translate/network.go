package translate

import (
	"net/netip"
	"slices"
	"strconv"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/ambit-mesh/ambit/controller/api/workload"
	"github.com/ambit-mesh/ambit/controller/objects"
)

// remoteGateway is one way into another network.
type remoteGateway struct {
	network string
	value   string // address or host name
	port    uint32 // for HBONE
}

func (g remoteGateway) address(namespace string) *workload.GatewayAddress {
	out := &workload.GatewayAddress{HboneMtlsPort: g.port}
	if ip, err := netip.ParseAddr(g.value); err == nil {
		out.Destination = addressOf(g.network, ip)
	} else {
		out.Destination = hostnameOf(namespace, g.value)
	}
	return out
}

// networkOf is the network that a Gateway leads into; "" for most: only unmanaged ones lead anywhere.
func networkOf(gw *gatewayv1.Gateway) string {
	if gw.Spec.GatewayClassName != classRemote {
		return ""
	}
	return gw.Labels[labelNetwork]
}

// remoteGateways are the ways that one Gateway gives into another network: each of its addresses, at its first HBONE listener.
func (t *Translator) remoteGateways(gw *gatewayv1.Gateway) []remoteGateway {
	network := networkOf(gw)
	at := slices.IndexFunc(gw.Spec.Listeners, func(l gatewayv1.Listener) bool { return l.Protocol == protocolHBONE })
	if network == "" || network == t.set.Network || at < 0 {
		return nil
	}
	var out []remoteGateway
	for _, a := range t.addressesOf(gw) {
		if a.Type != nil && *a.Type != gatewayv1.IPAddressType && *a.Type != gatewayv1.HostnameAddressType || a.Value == "" {
			continue
		}
		out = append(out, remoteGateway{network, a.Value, uint32(max(gw.Spec.Listeners[at].Port, 0))})
	}
	return out
}

// networkGateway is the way to a workload's network: the first of the oldest Gateway that leads there; nil for the own network.
func (t *Translator) networkGateway(network string) *workload.GatewayAddress {
	if network == t.set.Network {
		return nil
	}
	var best objects.Key
	var out *workload.GatewayAddress
	for key := range t.in.leads[network] {
		gw := get[*gatewayv1.Gateway](&t.in, key.Kind, key.Namespace, key.Name)
		if ways := t.remoteGateways(gw); len(ways) > 0 && ways[0].port != 0 && (out == nil || t.in.older(key, best)) {
			best, out = key, ways[0].address(key.Namespace)
		}
	}
	return out
}

// gatewayWorkloads stand for the gateways to other networks: what a workload's network gateway refers to must itself be known.
// Of several Gateways with the same way, the oldest makes it.
func (t *Translator) gatewayWorkloads(key objects.Key, gw *gatewayv1.Gateway) []*workload.Address {
	var out []*workload.Address
	for _, way := range t.remoteGateways(gw) {
		if t.madeByOlder(key, way) {
			continue
		}
		name := "NetworkGateway/" + way.network + "/" + way.value + "/" + strconv.Itoa(int(way.port))
		w := &workload.Workload{
			Uid: name, Name: name, Namespace: gw.Namespace, Network: way.network,
			ServiceAccount: firstOf(gw.Annotations["gateway.istio.io/service-account"], gw.Annotations["gateway.istio.io/name-override"], gw.Name),
		}
		if t.set.TrustDomain != "cluster.local" {
			w.TrustDomain = t.set.TrustDomain
		}
		if w.Addresses = appendAddress(nil, way.value); len(w.Addresses) == 0 {
			w.Hostname = way.value
		}
		out = append(out, workloadAddress(w))
	}
	return out
}

func (t *Translator) madeByOlder(key objects.Key, way remoteGateway) bool {
	for other := range t.in.leads[way.network] {
		gw := get[*gatewayv1.Gateway](&t.in, other.Kind, other.Namespace, other.Name)
		if other != key && t.in.older(other, key) && slices.Contains(t.remoteGateways(gw), way) {
			return true
		}
	}
	return false
}

// markNetwork marks who reads the gateways of a network.
func (t *Translator) markNetwork(gw *gatewayv1.Gateway) {
	network := networkOf(gw)
	if network == "" {
		return
	}
	for key := range t.in.inNetwork[network] {
		t.dirty.add(key)
	}
	for key := range t.in.leads[network] {
		t.dirty.add(key)
	}
}

// networksOf are the other networks in which an object says that its workloads are.
func networksOf(o objects.Object) []string {
	var out []string
	switch o := o.(type) {
	case *networkingv1.WorkloadEntry:
		out = append(out, o.Spec.Network)
	case *networkingv1.ServiceEntry:
		for _, ep := range o.Spec.Endpoints {
			out = append(out, ep.GetNetwork())
		}
	}
	return slices.DeleteFunc(out, func(n string) bool { return n == "" })
}
