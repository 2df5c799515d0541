package manifest

import (
	"fmt"
	"net/netip"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/ambit-mesh/ambit/controller/objects"
)

// check refuses what decodes but no API server would store, as far as the mesh would stumble over it.
func check(o objects.Object) []error {
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
		if o.Spec.Address == "" {
			errs = append(errs, &fieldError{"spec.address", 0, "an address is required"})
		}
	}
	return errs
}

func checkLabels(labels map[string]string) []error {
	var errs []error
	for k, v := range labels {
		if msgs := validation.IsQualifiedName(k); len(msgs) > 0 {
			errs = append(errs, &fieldError{join("metadata.labels", k), 0, msgs[0]})
		}
		if msgs := validation.IsValidLabelValue(v); len(msgs) > 0 {
			errs = append(errs, &fieldError{join("metadata.labels", k), 0, msgs[0]})
		}
	}
	return errs
}

func checkPod(p *corev1.Pod) []error {
	var errs []error
	for i, ip := range p.Status.PodIPs {
		errs = append(errs, checkAddress(fmt.Sprintf("status.podIPs[%d].ip", i), ip.IP)...)
	}
	if p.Status.PodIP != "" {
		errs = append(errs, checkAddress("status.podIP", p.Status.PodIP)...)
	}
	if sa := p.Spec.ServiceAccountName; sa != "" {
		if msgs := validation.IsDNS1123Subdomain(sa); len(msgs) > 0 {
			errs = append(errs, &fieldError{"spec.serviceAccountName", 0, msgs[0]})
		}
	}
	return errs
}

func checkService(s *corev1.Service) []error {
	var errs []error
	if msgs := validation.IsDNS1123Label(s.Name); len(msgs) > 0 {
		errs = append(errs, &fieldError{"metadata.name", 0, msgs[0]})
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
			errs = append(errs, &fieldError{fmt.Sprintf("spec.ports[%d].port", i), 0, "want 1 to 65535"})
		}
	}
	return errs
}

func checkSlice(s *discoveryv1.EndpointSlice) []error {
	if s.AddressType == discoveryv1.AddressTypeFQDN {
		return nil
	}
	var errs []error
	for i, ep := range s.Endpoints {
		for j, a := range ep.Addresses {
			errs = append(errs, checkAddress(fmt.Sprintf("endpoints[%d].addresses[%d]", i, j), a)...)
		}
	}
	return errs
}

func checkServiceEntry(s *networkingv1.ServiceEntry) []error {
	var errs []error
	if len(s.Spec.Hosts) == 0 {
		errs = append(errs, &fieldError{"spec.hosts", 0, "at least one host is required"})
	}
	for i, h := range s.Spec.Hosts {
		if h == "" || len(h) > 253 {
			errs = append(errs, &fieldError{fmt.Sprintf("spec.hosts[%d]", i), 0, "want a host name of 1 to 253 characters"})
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

func checkAddress(field, s string) []error {
	if a, err := netip.ParseAddr(s); err != nil || a.Zone() != "" {
		return []error{&fieldError{field, 0, fmt.Sprintf("%q is not an IP address", s)}}
	}
	return nil
}
