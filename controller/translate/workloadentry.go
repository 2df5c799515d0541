package translate

import (
	"strings"

	"google.golang.org/protobuf/types/known/wrapperspb"
	networkingapi "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/ambit-mesh/ambit/controller/api/workload"
	"github.com/ambit-mesh/ambit/controller/objects"
)

// workloadEntry makes the workload of a machine outside Kubernetes. One without an address is behind its network's gateway.
func (t *Translator) workloadEntry(key objects.Key) unit {
	we := get[*networkingv1.WorkloadEntry](&t.in, key.Kind, key.Namespace, key.Name)
	if we.Spec.Address == "" && we.Spec.Network == "" || strings.HasPrefix(we.Spec.Address, "unix:") {
		return unit{}
	}
	labels := entryLabels(we)
	w := &workload.Workload{
		Uid:                   t.set.ClusterID + "/networking.istio.io/WorkloadEntry/" + we.Namespace + "/" + we.Name,
		Name:                  we.Name,
		Namespace:             we.Namespace,
		WorkloadName:          firstOf(we.Annotations["istio.io/autoRegistrationGroup"], labels[labelWorkloadName], we.Name),
		AuthorizationPolicies: t.policiesOf(we.Namespace, labels),
		Status:                machineStatus(we),
	}
	t.fromEntry(w, &we.Spec)
	t.common(w, labels)
	t.serve(key, w, t.machineServices(we, labels))
	var b binding
	if gw := t.instanceOf(we.Namespace, we.Labels); gw != nil {
		w.ApplicationTunnel = t.bindingOf(gw)
	} else {
		b = t.workloadBinding(we)
	}
	w.Waypoint = b.waypoint
	return unit{addresses: []*workload.Address{workloadAddress(w)}, conditions: b.conditions}
}

// fromEntry fills what a WorkloadEntry's spec says, alone or as an endpoint of a ServiceEntry.
func (t *Translator) fromEntry(w *workload.Workload, e *networkingapi.WorkloadEntry) {
	if w.Addresses = appendAddress(nil, e.Address); len(w.Addresses) == 0 {
		w.Hostname = e.Address
	}
	w.Network = e.Network
	w.ServiceAccount = e.ServiceAccount
	part := strings.SplitN(e.Locality, "/", 3)
	part = append(part, "", "")
	w.Locality = locality(part[0], part[1], part[2])
	if e.Weight > 0 {
		w.Capacity = wrapperspb.UInt32(e.Weight)
	}
}

// machineStatus heeds the health that a machine's agent reports; Istio leaves it out.
func machineStatus(we *networkingv1.WorkloadEntry) workload.WorkloadStatus {
	for _, c := range we.Status.Conditions {
		if c.Type == "Healthy" && c.Status == "False" {
			return workload.WorkloadStatus_UNHEALTHY
		}
	}
	return workload.WorkloadStatus_HEALTHY
}

func (t *Translator) machineServices(we *networkingv1.WorkloadEntry, labels map[string]string) memberships {
	var out memberships
	for _, key := range t.in.selectedBy(objects.Service, we.Namespace, labels) {
		s := get[*corev1.Service](&t.in, key.Kind, key.Namespace, key.Name)
		if s.Spec.Type != corev1.ServiceTypeExternalName {
			out = append(out, membership{key, t.serviceKey(s), servicePorts(s, func(sp corev1.ServicePort) uint32 { return machinePort(&we.Spec, sp) })})
		}
	}
	for _, key := range t.in.selectedBy(objects.ServiceEntry, we.Namespace, labels) {
		out = t.addEntryServices(out, key, func(sp *networkingapi.ServicePort) uint32 {
			return firstNonZero(we.Spec.Ports[sp.Name], sp.TargetPort, sp.Number)
		})
	}
	return out
}

func machinePort(e *networkingapi.WorkloadEntry, sp corev1.ServicePort) uint32 {
	if p := e.Ports[sp.Name]; p != 0 && sp.Name != "" {
		return p
	}
	if sp.TargetPort.Type == intstr.String && sp.TargetPort.StrVal != "" {
		return e.Ports[sp.TargetPort.StrVal]
	}
	return firstNonZero(uint32(max(sp.TargetPort.IntVal, 0)), uint32(max(sp.Port, 0)))
}
