package translate

import (
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/ambit-mesh/ambit/controller/api/workload"
	"github.com/ambit-mesh/ambit/controller/objects"
)

const (
	labelTunnel      = "networking.istio.io/tunnel"
	annotRedirection = "ambient.istio.io/redirection"
	labelRegion      = "topology.kubernetes.io/region"
	labelZone        = "topology.kubernetes.io/zone"
	labelSubzone     = "topology.istio.io/subzone"
	labelGatewayName = "gateway.networking.k8s.io/gateway-name"
)

// pod makes the workload of a pod. Pods that ended, or have no address yet, have none.
func (t *Translator) pod(key objects.Key) unit {
	p := get[*corev1.Pod](&t.in, objects.Pod, key.Namespace, key.Name)
	addresses := podAddresses(p)
	if len(addresses) == 0 || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
		return unit{}
	}
	w := &workload.Workload{
		Uid:                   t.set.ClusterID + "//Pod/" + p.Namespace + "/" + p.Name,
		Name:                  p.Name,
		Namespace:             p.Namespace,
		Addresses:             addresses,
		Node:                  p.Spec.NodeName,
		ServiceAccount:        p.Spec.ServiceAccountName,
		WorkloadName:          podWorkloadName(p),
		Status:                podStatus(p),
		Locality:              t.nodeLocality(p.Spec.NodeName),
		Services:              t.podServices(p),
		AuthorizationPolicies: t.policiesOf(p.Namespace, p.Labels),
	}
	if p.Spec.HostNetwork {
		w.NetworkMode = workload.NetworkMode_HOST_NETWORK
	}
	t.common(w, p.Labels)
	if p.Annotations[annotRedirection] == "enabled" && w.TunnelProtocol == workload.TunnelProtocol_NONE {
		w.TunnelProtocol = workload.TunnelProtocol_HBONE
	}
	if p.Labels[labelGatewayName] == "" { // an instance of a waypoint has none itself
		w.Waypoint = t.workloadWaypoint(key, p)
	}
	return unit{addresses: []*workload.Address{workloadAddress(w)}}
}

// common fills what every workload has from its labels and the mesh. WorkloadName must be set.
func (t *Translator) common(w *workload.Workload, labels map[string]string) {
	w.ClusterId = t.set.ClusterID
	if w.Network == "" {
		w.Network = t.set.Network
	}
	if t.set.TrustDomain != "cluster.local" { // the default is sent empty
		w.TrustDomain = t.set.TrustDomain
	}
	w.WorkloadType = workload.WorkloadType_POD
	w.CanonicalName = firstOf(labels["service.istio.io/canonical-name"], labels["app.kubernetes.io/name"], labels["app"], w.WorkloadName)
	w.CanonicalRevision = firstOf(labels["service.istio.io/canonical-revision"], labels["app.kubernetes.io/version"], labels["version"], "latest")
	if slices.Contains(strings.Split(labels[labelTunnel], ","), "http") {
		w.TunnelProtocol, w.NativeTunnel = workload.TunnelProtocol_HBONE, true
	}
}

func workloadAddress(w *workload.Workload) *workload.Address {
	return &workload.Address{Type: &workload.Address_Workload{Workload: w}}
}

func podAddresses(p *corev1.Pod) [][]byte {
	var out [][]byte
	for _, ip := range p.Status.PodIPs {
		out = appendAddress(out, ip.IP)
	}
	if len(out) == 0 {
		out = appendAddress(out, p.Status.PodIP)
	}
	return out
}

// appendAddress adds an address in wire form: 4 or 16 bytes. What is no address is left out.
func appendAddress(out [][]byte, s string) [][]byte {
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return out
	}
	return append(out, a.Unmap().AsSlice())
}

func podStatus(p *corev1.Pod) workload.WorkloadStatus {
	if p.DeletionTimestamp != nil {
		return workload.WorkloadStatus_UNHEALTHY
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
			return workload.WorkloadStatus_HEALTHY
		}
	}
	return workload.WorkloadStatus_UNHEALTHY
}

func (t *Translator) nodeLocality(name string) *workload.Locality {
	node := get[*corev1.Node](&t.in, objects.Node, "", name)
	if node == nil {
		return nil
	}
	return locality(node.Labels[labelRegion], node.Labels[labelZone], node.Labels[labelSubzone])
}

func locality(region, zone, subzone string) *workload.Locality {
	if region == "" && zone == "" && subzone == "" {
		return nil
	}
	return &workload.Locality{Region: region, Zone: zone, Subzone: subzone}
}

func firstOf(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}
