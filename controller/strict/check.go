package strict

import (
	"fmt"
	"net/netip"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/ambit-mesh/ambit/controller/objects"
)

// Check names what decodes but no API server would store, as far as the mesh would stumble over it.
func Check(o objects.Object) []*Error {
	errs := checkLabels(o.GetLabels())
	switch o := o.(type) {
	case *corev1.Pod:
		errs = append(errs, checkPod(o)...)
	case *corev1.Service:
		errs = append(errs, checkService(o)...)
	case *discoveryv1.EndpointSlice:
		errs = append(errs, checkSlice(o)...)
	case *networkingv1.ServiceEntry:
		errs = append(errs, checkServiceEntry(o)...)
	case *networkingv1.WorkloadEntry:
		if o.Spec.Address == "" && o.Spec.Network == "" { // a network's gateway may stand for it
			errs = append(errs, &Error{Field: "spec.address", Reason: "an address is required"})
		}
	}
	return errs
}

func checkLabels(labels map[string]string) []*Error {
	var errs []*Error
	for k, v := range labels {
		if msgs := validation.IsQualifiedName(k); len(msgs) > 0 {
			errs = append(errs, &Error{Field: join("metadata.labels", k), Reason: msgs[0]})
		}
		if msgs := validation.IsValidLabelValue(v); len(msgs) > 0 {
			errs = append(errs, &Error{Field: join("metadata.labels", k), Reason: msgs[0]})
		}
	}
	return errs
}

func checkPod(p *corev1.Pod) []*Error {
	var errs []*Error
	for i, ip := range p.Status.PodIPs {
		errs = append(errs, checkAddress(fmt.Sprintf("status.podIPs[%d].ip", i), ip.IP)...)
	}
	if p.Status.PodIP != "" {
		errs = append(errs, checkAddress("status.podIP", p.Status.PodIP)...)
	}
	if sa := p.Spec.ServiceAccountName; sa != "" {
		if msgs := validation.IsDNS1123Subdomain(sa); len(msgs) > 0 {
			errs = append(errs, &Error{Field: "spec.serviceAccountName", Reason: msgs[0]})
		}
	}
	return errs
}

func checkService(s *corev1.Service) []*Error {
	var errs []*Error
	if msgs := validation.IsDNS1123Label(s.Name); len(msgs) > 0 {
		errs = append(errs, &Error{Field: "metadata.name", Reason: msgs[0]})
	}
	for i, ip := range s.Spec.ClusterIPs {
		if ip != corev1.ClusterIPNone {
			errs = append(errs, checkAddress(fmt.Sprintf("spec.clusterIPs[%d]", i), ip)...)
		}
	}
	if ip := s.Spec.ClusterIP; ip != "" && ip != corev1.ClusterIPNone {
		errs = append(errs, checkAddress("spec.clusterIP", ip)...)
	}
	for i, p := range s.Spec.Ports {
		if p.Port < 1 || p.Port > 65535 {
			errs = append(errs, &Error{Field: fmt.Sprintf("spec.ports[%d].port", i), Reason: "want 1 to 65535"})
		}
	}
	return errs
}

func checkSlice(s *discoveryv1.EndpointSlice) []*Error {
	if s.AddressType == discoveryv1.AddressTypeFQDN {
		return nil
	}
	var errs []*Error
	for i, ep := range s.Endpoints {
		for j, a := range ep.Addresses {
			errs = append(errs, checkAddress(fmt.Sprintf("endpoints[%d].addresses[%d]", i, j), a)...)
		}
	}
	return errs
}

func checkServiceEntry(s *networkingv1.ServiceEntry) []*Error {
	var errs []*Error
	if len(s.Spec.Hosts) == 0 {
		errs = append(errs, &Error{Field: "spec.hosts", Reason: "at least one host is required"})
	}
	for i, h := range s.Spec.Hosts {
		if h == "" || len(h) > 253 {
			errs = append(errs, &Error{Field: fmt.Sprintf("spec.hosts[%d]", i), Reason: "want a host name of 1 to 253 characters"})
		}
	}
	for i, a := range s.Spec.Addresses {
		if _, err := netip.ParsePrefix(a); err == nil {
			continue
		}
		errs = append(errs, checkAddress(fmt.Sprintf("spec.addresses[%d]", i), a)...)
	}
	return errs
}

func checkAddress(field, s string) []*Error {
	if a, err := netip.ParseAddr(s); err != nil || a.Zone() != "" {
		return []*Error{{Field: field, Reason: fmt.Sprintf("%q is not an IP address", s)}}
	}
	return nil
}
