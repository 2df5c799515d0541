package objects

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Trim removes from a freshly decoded object what the controller never reads, so that a cache of many pods stays small. It
// changes the object in place and returns it. Sources call it before they deliver.
func Trim(o Object) Object {
	o.SetManagedFields(nil)
	if a := o.GetAnnotations(); a != nil {
		delete(a, "kubectl.kubernetes.io/last-applied-configuration")
	}
	switch o := o.(type) {
	case *corev1.Pod:
		trimPod(o)
	case *corev1.Node:
		o.Spec, o.Status, o.Annotations = corev1.NodeSpec{}, corev1.NodeStatus{}, nil
	case *corev1.Namespace:
		o.Spec, o.Status = corev1.NamespaceSpec{}, corev1.NamespaceStatus{}
	case *corev1.ServiceAccount:
		o.Secrets, o.ImagePullSecrets = nil, nil
	case *discoveryv1.EndpointSlice:
		o.OwnerReferences = nil
	}
	return o
}

func trimPod(p *corev1.Pod) {
	spec := corev1.PodSpec{
		NodeName:           p.Spec.NodeName,
		ServiceAccountName: p.Spec.ServiceAccountName,
		HostNetwork:        p.Spec.HostNetwork,
		Containers:         trimContainers(p.Spec.Containers),
	}
	for _, c := range p.Spec.InitContainers { // restartable ones may serve ports
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			spec.InitContainers = append(spec.InitContainers, trimContainers([]corev1.Container{c})...)
		}
	}
	status := corev1.PodStatus{Phase: p.Status.Phase, PodIP: p.Status.PodIP, PodIPs: p.Status.PodIPs}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			status.Conditions = []corev1.PodCondition{{Type: c.Type, Status: c.Status}}
		}
	}
	p.Spec, p.Status = spec, status
	var owner []metav1.OwnerReference
	for _, o := range p.OwnerReferences {
		if o.Controller != nil && *o.Controller {
			owner = append(owner, metav1.OwnerReference{APIVersion: o.APIVersion, Kind: o.Kind, Name: o.Name, Controller: o.Controller})
		}
	}
	p.OwnerReferences, p.Finalizers = owner, nil
}

func trimContainers(in []corev1.Container) []corev1.Container {
	var out []corev1.Container
	for _, c := range in {
		if len(c.Ports) > 0 {
			out = append(out, corev1.Container{Name: c.Name, Ports: c.Ports, RestartPolicy: c.RestartPolicy})
		}
	}
	return out
}
