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
)

// pod makes the workload of a pod. Pods that ended, or have no address yet, have none.
func (t *Translator) pod(key objects.Key) unit {
	p := get[*objects.CompactPod](&t.in, objects.Pod, key.Namespace, key.Name)
	if len(p.IPs) == 0 || p.Ended() {
		return unit{}
	}
	w := &workload.Workload{
		Uid:                   t.set.ClusterID + "//Pod/" + p.Namespace + "/" + p.Name,
		Name:                  p.Name,
		Namespace:             p.Namespace,
		Addresses:             wireAddresses(p.IPs),
		Node:                  p.NodeName,
		ServiceAccount:        p.ServiceAccountName,
		WorkloadName:          podWorkloadName(p),
		Status:                podStatus(p),
		Locality:              t.nodeLocality(p.NodeName),
		AuthorizationPolicies: t.policiesOf(p.Namespace, p.Labels),
	}
	if p.HostNetwork {
		w.NetworkMode = workload.NetworkMode_HOST_NETWORK
	}
	t.common(w, p.Labels)
	if p.Annotations[annotRedirection] == "enabled" && w.TunnelProtocol == workload.TunnelProtocol_NONE {
		w.TunnelProtocol = workload.TunnelProtocol_HBONE
	}
	t.serve(key, w, t.podServices(p))
	if gw := t.instanceOf(p.Namespace, p.Labels); gw != nil { // an instance of a waypoint has none itself
		w.ApplicationTunnel = t.bindingOf(gw)
	} else {
		w.Waypoint = t.workloadBinding(p).waypoint
	}
	return unit{addresses: []*workload.Address{workloadAddress(w)}}
}

// common fills what every workload has from its labels and the mesh. WorkloadName must be set.
func (t *Translator) common(w *workload.Workload, labels map[string]string) {
	w.ClusterId = t.set.ClusterID
	if w.Network == "" {
		w.Network = t.set.Network
	}
	w.NetworkGateway = t.networkGateway(w.Network)
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

// wireAddresses are addresses in wire form: 4 or 16 bytes.
func wireAddresses(ips []netip.Addr) [][]byte {
	out := make([][]byte, len(ips))
	for i, ip := range ips {
		out[i] = ip.AsSlice()
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

func podStatus(p *objects.CompactPod) workload.WorkloadStatus {
	if p.Ready && p.DeletionTimestamp == nil {
		return workload.WorkloadStatus_HEALTHY
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
