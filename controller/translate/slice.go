package translate

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/ambit-mesh/ambit/controller/api/workload"
	"github.com/ambit-mesh/ambit/controller/objects"
)

// serviceOfSlice is the Service an EndpointSlice belongs to.
func serviceOfSlice(es *objects.CompactSlice) (objects.Key, bool) {
	name := es.Labels[discoveryv1.LabelServiceName]
	return objects.Key{Kind: objects.Service, Namespace: es.Namespace, Name: name}, name != ""
}

// podOfEndpoint is the pod an endpoint stands for, if it does.
func podOfEndpoint(es *objects.CompactSlice, ep *objects.CompactEndpoint) (objects.Key, bool) {
	return objects.Key{Kind: objects.Pod, Namespace: es.Namespace, Name: ep.Pod}, ep.Pod != ""
}

// endpointSlice makes a workload of each endpoint that is no pod.
func (t *Translator) endpointSlice(key objects.Key) unit {
	es := get[*objects.CompactSlice](&t.in, key.Kind, key.Namespace, key.Name)
	svc, ok := serviceOfSlice(es)
	if !ok || es.AddressType == discoveryv1.AddressTypeFQDN {
		return unit{}
	}
	s := get[*corev1.Service](&t.in, svc.Kind, svc.Namespace, svc.Name)
	var u unit
	seen := set[netip.Addr]{}
	for i := range es.Endpoints {
		ep := &es.Endpoints[i]
		if _, isPod := podOfEndpoint(es, ep); isPod {
			continue
		}
		for _, ip := range ep.Addresses {
			if !seen.has(ip) {
				seen.add(ip)
				u.addresses = append(u.addresses, workloadAddress(t.endpoint(es, ep, s, ip)))
			}
		}
	}
	return u
}

func (t *Translator) endpoint(es *objects.CompactSlice, ep *objects.CompactEndpoint, s *corev1.Service, ip netip.Addr) *workload.Workload {
	w := &workload.Workload{
		Uid:          t.set.ClusterID + "/discovery.k8s.io/EndpointSlice/" + es.Namespace + "/" + es.Name + "/" + ip.String(),
		Name:         es.Name,
		Namespace:    es.Namespace,
		Addresses:    [][]byte{ip.AsSlice()},
		NetworkMode:  workload.NetworkMode_HOST_NETWORK,
		WorkloadName: es.Name,
	}
	if ep.NotReady {
		w.Status = workload.WorkloadStatus_UNHEALTHY
	}
	if s != nil && s.Spec.Type != corev1.ServiceTypeExternalName {
		w.Services = map[string]*workload.PortList{
			t.serviceKey(s): servicePorts(s, func(sp corev1.ServicePort) uint32 { return slicePort(es, sp.Name) }),
		}
	}
	t.common(w, nil)
	return w
}

// slicePort is the TCP port that a slice gives for a service's port of that name.
func slicePort(es *objects.CompactSlice, name string) uint32 {
	for _, p := range es.Ports {
		if p.Name == name {
			return uint32(p.Number)
		}
	}
	return 0
}
