package translate

import (
	"slices"

	networkingapi "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/ambit-mesh/ambit/controller/api/workload"
	"github.com/ambit-mesh/ambit/controller/objects"
)

// membership says that a workload is an endpoint of one service.
type membership struct {
	object objects.Key // Service or ServiceEntry
	name   string      // namespace/hostname
	ports  *workload.PortList
}

type memberships []membership

// serve makes a workload an endpoint of services, and has those that are guarded guarded at it.
func (t *Translator) serve(key objects.Key, w *workload.Workload, in memberships) {
	guarded := portGuards{}
	for _, m := range in {
		if w.Services == nil {
			w.Services = make(map[string]*workload.PortList, len(in))
		}
		w.Services[m.name] = m.ports
		if g, ok := t.guards[m.object]; ok {
			for _, p := range m.ports.Ports {
				guarded.add(p.TargetPort, g)
			}
		}
	}
	if name := t.guardPolicy(key, guarded); name != "" {
		w.AuthorizationPolicies = append(w.AuthorizationPolicies, name)
		slices.Sort(w.AuthorizationPolicies)
	}
}

// podServices lists the services a pod is an endpoint of, with its ports.
func (t *Translator) podServices(p *objects.CompactPod) memberships {
	var out memberships
	add := func(s *corev1.Service) {
		if s != nil && s.Spec.Type != corev1.ServiceTypeExternalName {
			key := objects.Key{Kind: objects.Service, Namespace: s.Namespace, Name: s.Name}
			out = append(out, membership{key, t.serviceKey(s), servicePorts(s, func(sp corev1.ServicePort) uint32 { return podTargetPort(p, sp) })})
		}
	}
	for _, key := range t.in.selectedBy(objects.Service, p.Namespace, p.Labels) {
		add(get[*corev1.Service](&t.in, key.Kind, key.Namespace, key.Name))
	}
	for slice := range t.in.slicePod[objects.Key{Kind: objects.Pod, Namespace: p.Namespace, Name: p.Name}] {
		add(t.serviceWithoutSelector(slice, p))
	}
	for _, key := range t.in.selectedBy(objects.ServiceEntry, p.Namespace, p.Labels) {
		out = t.addEntryServices(out, key, func(sp *networkingapi.ServicePort) uint32 {
			return firstNonZero(containerPort(p, sp.Name), sp.TargetPort, sp.Number)
		})
	}
	return out
}

// serviceWithoutSelector is the service of a slice that names this very pod, when nothing but the slice binds them.
func (t *Translator) serviceWithoutSelector(slice objects.Key, p *objects.CompactPod) *corev1.Service {
	es := get[*objects.CompactSlice](&t.in, slice.Kind, slice.Namespace, slice.Name)
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
		if ep := &es.Endpoints[i]; ep.Pod == p.Name && (ep.PodUID == "" || ep.PodUID == p.UID) {
			return s
		}
	}
	return nil
}

// addEntryServices adds the services of a ServiceEntry: one per host that it holds in its namespace.
func (t *Translator) addEntryServices(out memberships, key objects.Key, target func(*networkingapi.ServicePort) uint32) memberships {
	se := get[*networkingv1.ServiceEntry](&t.in, key.Kind, key.Namespace, key.Name)
	ports := &workload.PortList{}
	for _, sp := range se.Spec.Ports {
		if p := target(sp); p != 0 {
			ports.Ports = append(ports.Ports, &workload.Port{ServicePort: sp.Number, TargetPort: p})
		}
	}
	for _, host := range se.Spec.Hosts {
		if t.publishes(key, se, host) && t.winner(key.Namespace, host) == key {
			out = append(out, membership{key, key.Namespace + "/" + host, ports})
		}
	}
	return out
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

func podTargetPort(p *objects.CompactPod, sp corev1.ServicePort) uint32 {
	if sp.TargetPort.Type == intstr.String && sp.TargetPort.StrVal != "" {
		return containerPort(p, sp.TargetPort.StrVal)
	}
	return firstNonZero(uint32(max(sp.TargetPort.IntVal, 0)), uint32(max(sp.Port, 0)))
}

// containerPort is a named TCP port of the pod's containers; 0 if there is none.
func containerPort(p *objects.CompactPod, name string) uint32 {
	if name == "" {
		return 0
	}
	for _, port := range p.Ports {
		if port.Name == name {
			return uint32(port.Number)
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
