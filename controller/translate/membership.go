package translate

import (
	networkingapi "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/ambit-mesh/ambit/controller/api/workload"
	"github.com/ambit-mesh/ambit/controller/objects"
)

// podServices lists the services a pod is an endpoint of, with its ports.
func (t *Translator) podServices(p *corev1.Pod) map[string]*workload.PortList {
	out := map[string]*workload.PortList{}
	add := func(s *corev1.Service) {
		if s != nil && s.Spec.Type != corev1.ServiceTypeExternalName {
			out[t.serviceKey(s)] = servicePorts(s, func(sp corev1.ServicePort) uint32 { return podTargetPort(p, sp) })
		}
	}
	for _, key := range t.in.selectedBy(objects.Service, p.Namespace, p.Labels) {
		add(get[*corev1.Service](&t.in, key.Kind, key.Namespace, key.Name))
	}
	for slice := range t.in.slicePod[objects.Key{Kind: objects.Pod, Namespace: p.Namespace, Name: p.Name}] {
		add(t.serviceWithoutSelector(slice, p))
	}
	for _, key := range t.in.selectedBy(objects.ServiceEntry, p.Namespace, p.Labels) {
		t.addEntryServices(out, key, func(sp *networkingapi.ServicePort) uint32 {
			return firstNonZero(containerPort(p, sp.Name), sp.TargetPort, sp.Number)
		})
	}
	return nonEmpty(out)
}

// serviceWithoutSelector is the service of a slice that names this very pod, when nothing but the slice binds them.
func (t *Translator) serviceWithoutSelector(slice objects.Key, p *corev1.Pod) *corev1.Service {
	es := get[*discoveryv1.EndpointSlice](&t.in, slice.Kind, slice.Namespace, slice.Name)
	if es == nil {
		return nil
	}
	key, ok := serviceOfSlice(es)
	if !ok {
		return nil
	}
	s := get[*corev1.Service](&t.in, key.Kind, key.Namespace, key.Name)
	if s == nil || len(s.Spec.Selector) > 0 {
		return nil
	}
	for i := range es.Endpoints {
		ref := es.Endpoints[i].TargetRef
		if pod, ok := podOfEndpoint(es, &es.Endpoints[i]); ok && pod.Name == p.Name && (ref.UID == "" || ref.UID == p.UID) {
			return s
		}
	}
	return nil
}

// addEntryServices adds the services of a ServiceEntry: one per host that it holds in its namespace.
func (t *Translator) addEntryServices(out map[string]*workload.PortList, key objects.Key, target func(*networkingapi.ServicePort) uint32) {
	se := get[*networkingv1.ServiceEntry](&t.in, key.Kind, key.Namespace, key.Name)
	ports := &workload.PortList{}
	for _, sp := range se.Spec.Ports {
		if p := target(sp); p != 0 {
			ports.Ports = append(ports.Ports, &workload.Port{ServicePort: sp.Number, TargetPort: p})
		}
	}
	for _, host := range se.Spec.Hosts {
		if t.publishes(se, host) && t.winner(key.Namespace, host) == key {
			out[key.Namespace+"/"+host] = ports
		}
	}
}

// servicePorts maps a Service's ports to a workload's. A port that the workload does not have is left out.
func servicePorts(s *corev1.Service, target func(corev1.ServicePort) uint32) *workload.PortList {
	list := &workload.PortList{}
	for _, sp := range s.Spec.Ports {
		if p := target(sp); p != 0 {
			list.Ports = append(list.Ports, &workload.Port{ServicePort: uint32(sp.Port), TargetPort: p})
		}
	}
	return list
}

func podTargetPort(p *corev1.Pod, sp corev1.ServicePort) uint32 {
	if sp.TargetPort.Type == intstr.String && sp.TargetPort.StrVal != "" {
		return containerPort(p, sp.TargetPort.StrVal)
	}
	return firstNonZero(uint32(max(sp.TargetPort.IntVal, 0)), uint32(max(sp.Port, 0)))
}

// containerPort is a named TCP port of the pod's containers, init containers that stay included; 0 if there is none.
func containerPort(p *corev1.Pod, name string) uint32 {
	if name == "" {
		return 0
	}
	for _, c := range p.Spec.Containers {
		if port := namedPort(c, name); port != 0 {
			return port
		}
	}
	for _, c := range p.Spec.InitContainers {
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			if port := namedPort(c, name); port != 0 {
				return port
			}
		}
	}
	return 0
}

func namedPort(c corev1.Container, name string) uint32 {
	for _, port := range c.Ports {
		if port.Name == name && (port.Protocol == "" || port.Protocol == corev1.ProtocolTCP) {
			return uint32(max(port.ContainerPort, 0))
		}
	}
	return 0
}

func firstNonZero(values ...uint32) uint32 {
	for _, v := range values {
		if v != 0 {
			return v
		}
	}
	return 0
}

func nonEmpty(m map[string]*workload.PortList) map[string]*workload.PortList {
	if len(m) == 0 {
		return nil
	}
	return m
}
