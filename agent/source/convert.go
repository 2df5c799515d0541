package source

import (
	"net/netip"
	"slices"

	"github.com/ambit-mesh/ambit/agent/pods"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// fromPod takes what the agent reads of a pod. Addresses that cannot be read are left out: a pod without one is not enrolled.
func fromPod(p *corev1.Pod) pods.Pod {
	out := pods.Pod{
		UID: pods.UID(p.UID), Key: pods.Key{Namespace: p.Namespace, Name: p.Name}, ServiceAccount: p.Spec.ServiceAccountName,
		Labels: p.Labels, Annotations: p.Annotations, HostNetwork: p.Spec.HostNetwork, Phase: pods.Phase(p.Status.Phase),
		Deleting: p.DeletionTimestamp != nil,
	}
	if out.UID == "" { // only by hand in the lab's folder: the name is as good there
		out.UID = pods.UID(p.Namespace + "/" + p.Name)
	}
	if out.ServiceAccount == "" {
		out.ServiceAccount = "default"
	}
	texts := []string{p.Status.PodIP}
	for _, ip := range p.Status.PodIPs {
		texts = append(texts, ip.IP)
	}
	out.IPs = parseAddrs(texts)
	if p.Spec.DNSPolicy == corev1.DNSNone && p.Spec.DNSConfig != nil {
		out.Nameservers = parseAddrs(p.Spec.DNSConfig.Nameservers)
	}
	for _, c := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
		for _, port := range c.Ports {
			if n, ok := portNumber(int64(port.ContainerPort)); ok {
				out.Ports = append(out.Ports, n)
			}
		}
		out.ProbePorts = append(out.ProbePorts, probePorts(&c)...)
	}
	slices.Sort(out.ProbePorts)
	out.ProbePorts = slices.Compact(out.ProbePorts)
	return out
}

func fromNamespace(n *corev1.Namespace) pods.Namespace {
	return pods.Namespace{Name: n.Name, Labels: n.Labels}
}

func parseAddrs(texts []string) []netip.Addr {
	var addrs []netip.Addr
	for _, text := range texts {
		if a, err := netip.ParseAddr(text); err == nil && !slices.Contains(addrs, a.Unmap()) {
			addrs = append(addrs, a.Unmap())
		}
	}
	return addrs
}

// probePorts are the ports of the pod that the kubelet connects to for a container: probes, and httpGet and tcpSocket
// lifecycle hooks. A handler with a host of its own does not go to the pod.
func probePorts(c *corev1.Container) []uint16 {
	var ports []uint16
	add := func(http *corev1.HTTPGetAction, tcp *corev1.TCPSocketAction, grpc *corev1.GRPCAction) {
		switch {
		case http != nil && http.Host == "":
			ports = append(ports, resolve(c, http.Port)...)
		case tcp != nil && tcp.Host == "":
			ports = append(ports, resolve(c, tcp.Port)...)
		case grpc != nil:
			ports = append(ports, resolve(c, intstr.FromInt32(grpc.Port))...)
		}
	}
	for _, probe := range []*corev1.Probe{c.StartupProbe, c.LivenessProbe, c.ReadinessProbe} {
		if probe != nil {
			add(probe.HTTPGet, probe.TCPSocket, probe.GRPC)
		}
	}
	if c.Lifecycle != nil {
		for _, hook := range []*corev1.LifecycleHandler{c.Lifecycle.PostStart, c.Lifecycle.PreStop} {
			if hook != nil {
				add(hook.HTTPGet, hook.TCPSocket, nil)
			}
		}
	}
	return ports
}

// resolve answers with the number of a port, which may be named in the container.
func resolve(c *corev1.Container, port intstr.IntOrString) []uint16 {
	number := int64(port.IntVal)
	if port.Type == intstr.String {
		i := slices.IndexFunc(c.Ports, func(p corev1.ContainerPort) bool { return p.Name == port.StrVal })
		if i < 0 {
			return nil
		}
		number = int64(c.Ports[i].ContainerPort)
	}
	if n, ok := portNumber(number); ok {
		return []uint16{n}
	}
	return nil
}

func portNumber(n int64) (uint16, bool) {
	return uint16(n), n > 0 && n < 1<<16
}
