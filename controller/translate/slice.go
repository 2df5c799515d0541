package translate

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/ambit-mesh/ambit/controller/api/workload"
	"github.com/ambit-mesh/ambit/controller/objects"
)

// serviceOfSlice is the Service an EndpointSlice belongs to.
func serviceOfSlice(es *discoveryv1.EndpointSlice) (objects.Key, bool) {
	name := es.Labels[discoveryv1.LabelServiceName]
	return objects.Key{Kind: objects.Service, Namespace: es.Namespace, Name: name}, name != ""
}

// podOfEndpoint is the pod an endpoint stands for, if it does.
func podOfEndpoint(es *discoveryv1.EndpointSlice, ep *discoveryv1.Endpoint) (objects.Key, bool) {
	if ep.TargetRef == nil || ep.TargetRef.Kind != "Pod" || ep.TargetRef.Name == "" {
		return objects.Key{}, false
	}
	if ns := ep.TargetRef.Namespace; ns != "" && ns != es.Namespace {
		return objects.Key{}, false // a slice cannot adopt pods of other namespaces
	}
	return objects.Key{Kind: objects.Pod, Namespace: es.Namespace, Name: ep.TargetRef.Name}, true
}

// endpointSlice makes a workload of each endpoint that is no pod.
func (t *Translator) endpointSlice(key objects.Key) unit {
	es := get[*discoveryv1.EndpointSlice](&t.in, key.Kind, key.Namespace, key.Name)
	svc, ok := serviceOfSlice(es)
	if !ok || es.AddressType == discoveryv1.AddressTypeFQDN {
		return unit{}
	}
	s := get[*corev1.Service](&t.in, svc.Kind, svc.Namespace, svc.Name)
	var u unit
	seen := set[string]{}
	for i := range es.Endpoints {
		ep := &es.Endpoints[i]
		if _, isPod := podOfEndpoint(es, ep); isPod {
			continue
		}
		for _, ip := range ep.Addresses {
			if a := appendAddress(nil, ip); len(a) == 1 && !seen.has(ip) {
				seen.add(ip)
				u.addresses = append(u.addresses, workloadAddress(t.endpoint(es, ep, s, ip, a)))
			}
		}
	}
	return u
}

func (t *Translator) endpoint(es *discoveryv1.EndpointSlice, ep *discoveryv1.Endpoint, s *corev1.Service, ip string, address [][]byte) *workload.Workload {
	w := &workload.Workload{
		Uid:          t.set.ClusterID + "/discovery.k8s.io/EndpointSlice/" + es.Namespace + "/" + es.Name + "/" + ip,
		Name:         es.Name,
		Namespace:    es.Namespace,
		Addresses:    address,
		NetworkMode:  workload.NetworkMode_HOST_NETWORK,
		WorkloadName: es.Name,
	}
	if ready := ep.Conditions.Ready; ready != nil && !*ready {
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
func slicePort(es *discoveryv1.EndpointSlice, name string) uint32 {
	for _, p := range es.Ports {
		if deref(p.Name) == name && p.Port != nil && (p.Protocol == nil || *p.Protocol == corev1.ProtocolTCP) {
			return uint32(max(*p.Port, 0))
		}
	}
	return 0
}
