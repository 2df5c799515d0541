package objects

import (
	"math"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Trim is o without what the controller never reads, so that a cache of many objects stays small: Pods and EndpointSlices
// become a CompactPod and a CompactSlice, a Service another with what is read of it alone, of others it removes fields in place. Sources call it before they deliver; o must
// be freshly decoded and not be used any more. What is trimmed already is returned as it is.
func Trim(o Object) Object {
	switch o := o.(type) {
	case *CompactPod, *CompactSlice:
		return o
	case *corev1.Pod:
		return trimPod(o)
	case *discoveryv1.EndpointSlice:
		return trimSlice(o)
	case *corev1.Service:
		return trimService(o)
	}
	if o.GetManagedFields() != nil {
		o.SetManagedFields(nil)
	}
	const applied = "kubectl.kubernetes.io/last-applied-configuration"
	if a := o.GetAnnotations(); a[applied] != "" {
		delete(a, applied)
	}
	switch o := o.(type) {
	case *corev1.Node:
		o.Spec, o.Status, o.Annotations = corev1.NodeSpec{}, corev1.NodeStatus{}, nil
	case *corev1.Namespace:
		o.Spec, o.Status = corev1.NamespaceSpec{}, corev1.NamespaceStatus{}
	case *corev1.ServiceAccount:
		o.Secrets, o.ImagePullSecrets = nil, nil
	}
	return o
}

// trimMeta keeps what every object may be asked for.
func trimMeta(m *metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name: m.Name, GenerateName: share(m.GenerateName), Namespace: share(m.Namespace), UID: m.UID, ResourceVersion: m.ResourceVersion,
		CreationTimestamp: m.CreationTimestamp, DeletionTimestamp: m.DeletionTimestamp, Labels: shareMap(m.Labels),
		Annotations: shareMap(meshAnnotations(m.Annotations)),
	}
}

// meshAnnotations are those of the mesh's own domains, and no sidecar's: a few bytes, where tools leave kilobytes.
func meshAnnotations(all map[string]string) map[string]string {
	var out map[string]string
	for k, v := range all {
		domain, _, _ := strings.Cut(k, "/")
		if !strings.HasSuffix(domain, "istio.io") && !strings.HasSuffix(domain, "ambit.io") || domain == "sidecar.istio.io" {
			continue
		}
		if out == nil {
			out = map[string]string{}
		}
		out[k] = v
	}
	return out
}

func trimPod(p *corev1.Pod) *CompactPod {
	out := &CompactPod{
		ObjectMeta:         trimMeta(&p.ObjectMeta),
		NodeName:           share(p.Spec.NodeName),
		ServiceAccountName: share(p.Spec.ServiceAccountName),
		HostNetwork:        p.Spec.HostNetwork,
		Phase:              share(p.Status.Phase),
		IPs:                podIPs(&p.Status),
	}
	for _, o := range p.OwnerReferences {
		if o.Controller != nil && *o.Controller {
			out.Owner = Owner{share(o.Kind), share(o.Name)}
			break
		}
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			out.Ready = c.Status == corev1.ConditionTrue
			break
		}
	}
	var ports []NamedPort
	for _, c := range p.Spec.Containers {
		ports = appendPorts(ports, c.Ports)
	}
	for _, c := range p.Spec.InitContainers { // restartable ones may serve ports
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			ports = appendPorts(ports, c.Ports)
		}
	}
	out.Ports = sharePorts(ports)
	return out
}

func podIPs(s *corev1.PodStatus) []netip.Addr {
	if len(s.PodIPs) == 0 {
		return appendIP(nil, s.PodIP)
	}
	out := make([]netip.Addr, 0, len(s.PodIPs))
	for _, ip := range s.PodIPs {
		out = appendIP(out, ip.IP)
	}
	if len(out) == 0 {
		return appendIP(nil, s.PodIP)
	}
	return out
}

// appendIP adds an address. Mapped ones become what nodes see; zones mean nothing off the machine.
func appendIP(out []netip.Addr, s string) []netip.Addr {
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return out
	}
	return append(out, a.Unmap())
}

func appendPorts(out []NamedPort, ports []corev1.ContainerPort) []NamedPort {
	for _, p := range ports {
		if n, ok := portNumber(p.ContainerPort); ok && p.Name != "" && (p.Protocol == "" || p.Protocol == corev1.ProtocolTCP) {
			out = append(out, NamedPort{p.Name, n})
		}
	}
	return out
}

func portNumber(n int32) (uint16, bool) { return uint16(n), n > 0 && n <= math.MaxUint16 }

// trimService copies what is read, so that neither the rest nor the buffer that the object was decoded from stays in memory. The
// type is Kubernetes' own, because nearly all of a spec is read. What is shared with other Services is what replicas of a chart
// have in common.
func trimService(s *corev1.Service) *corev1.Service {
	out := &corev1.Service{ObjectMeta: trimMeta(&s.ObjectMeta)}
	out.Generation = s.Generation // of the conditions that are written
	from, to := &s.Spec, &out.Spec
	to.Type, to.Selector = share(from.Type), shareMap(from.Selector)
	to.ClusterIP, to.ClusterIPs, to.IPFamilies = from.ClusterIP, from.ClusterIPs, shareEach(from.IPFamilies)
	if len(to.ClusterIPs) > 0 && to.ClusterIPs[0] == to.ClusterIP {
		to.ClusterIP = to.ClusterIPs[0] // the same text once
	}
	to.InternalTrafficPolicy, to.TrafficDistribution = shareRef(from.InternalTrafficPolicy), shareRef(from.TrafficDistribution)
	to.PublishNotReadyAddresses = from.PublishNotReadyAddresses
	if len(from.Ports) > 0 {
		to.Ports = make([]corev1.ServicePort, len(from.Ports))
	}
	for i := range from.Ports {
		p := &from.Ports[i]
		to.Ports[i] = corev1.ServicePort{
			Name: share(p.Name), Protocol: share(p.Protocol), AppProtocol: shareRef(p.AppProtocol), Port: p.Port, TargetPort: p.TargetPort,
		}
		to.Ports[i].TargetPort.StrVal = share(p.TargetPort.StrVal)
	}
	return out
}

func trimSlice(s *discoveryv1.EndpointSlice) *CompactSlice {
	out := &CompactSlice{ObjectMeta: trimMeta(&s.ObjectMeta), AddressType: share(s.AddressType)}
	var ports []NamedPort
	for _, p := range s.Ports {
		if p.Port == nil || p.Protocol != nil && *p.Protocol != corev1.ProtocolTCP {
			continue
		}
		n, ok := portNumber(*p.Port)
		if !ok {
			continue
		}
		port := NamedPort{Number: n}
		if p.Name != nil {
			port.Name = *p.Name
		}
		ports = append(ports, port)
	}
	out.Ports = sharePorts(ports)
	if len(s.Endpoints) > 0 {
		out.Endpoints = make([]CompactEndpoint, len(s.Endpoints))
	}
	for i := range s.Endpoints {
		out.Endpoints[i] = trimEndpoint(s.Namespace, &s.Endpoints[i])
	}
	return out
}

func trimEndpoint(namespace string, ep *discoveryv1.Endpoint) CompactEndpoint {
	out := CompactEndpoint{NotReady: ep.Conditions.Ready != nil && !*ep.Conditions.Ready}
	if ref := ep.TargetRef; ref != nil && ref.Kind == "Pod" && ref.Name != "" && (ref.Namespace == "" || ref.Namespace == namespace) {
		out.Pod, out.PodUID = ref.Name, ref.UID
		return out
	}
	for _, a := range ep.Addresses {
		out.Addresses = appendIP(out.Addresses, a)
	}
	return out
}
