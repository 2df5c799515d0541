package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"
)

// applied is an object that Apply made.
type applied struct {
	kind            schema.GroupVersionResource
	namespace, name string
}

// labelPatch is a merge patch; a label with an empty value is removed.
func labelPatch(labels map[string]string) ([]byte, error) {
	values := map[string]any{}
	for name, value := range labels {
		if values[name] = value; value == "" {
			values[name] = nil
		}
	}
	return json.Marshal(map[string]any{"metadata": map[string]any{"labels": values}})
}

// SetNamespace is part of demo.Lab.
func (l *demoLab) SetNamespace(ctx context.Context, name string, labels map[string]string) error {
	namespaces := l.kube.CoreV1().Namespaces()
	_, err := namespaces.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	patch, err := labelPatch(labels)
	if err != nil {
		return err
	}
	_, err = namespaces.Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{})
	return err
}

// SetPodLabels is part of demo.Lab.
func (l *demoLab) SetPodLabels(ctx context.Context, ref string, labels map[string]string) error {
	namespace, name, _ := strings.Cut(ref, "/")
	patch, err := labelPatch(labels)
	if err != nil {
		return err
	}
	_, err = l.kube.CoreV1().Pods(namespace).Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{})
	return err
}

// SetReady is part of demo.Lab: the kubelet probes each second, and the API server hears of it.
func (l *demoLab) SetReady(ctx context.Context, ref string, want bool) error {
	namespace, name, _ := strings.Cut(ref, "/")
	return poll(ctx, 20*time.Second, func() error {
		pod, err := l.kube.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
		if err == nil && ready(pod) != want {
			err = fmt.Errorf("pod %s: ready %v, want %v", ref, !want, want)
		}
		return err
	})
}

func ready(pod *corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// PutService is part of demo.Lab.
func (l *demoLab) PutService(ctx context.Context, namespace, name string, selector map[string]string, ports map[int]int) (*corev1.Service, error) {
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	service.Spec.Selector = selector
	for port, target := range ports {
		service.Spec.Ports = append(service.Spec.Ports, corev1.ServicePort{
			Name: fmt.Sprintf("tcp-%d", port), Port: int32(port), TargetPort: intstr.FromInt32(int32(target)),
		})
	}
	return l.addService(ctx, service)
}

// addService makes a Service with addresses of both families.
func (l *demoLab) addService(ctx context.Context, service *corev1.Service) (*corev1.Service, error) {
	both := corev1.IPFamilyPolicyRequireDualStack
	service.Spec.IPFamilyPolicy = &both
	service.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
	return l.kube.CoreV1().Services(service.Namespace).Create(ctx, service, metav1.CreateOptions{})
}

// Apply is part of demo.Lab.
func (l *demoLab) Apply(ctx context.Context, name string, manifest []byte) error {
	for text := range strings.SplitSeq(string(manifest), "\n---\n") {
		o := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(text), &o.Object); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if len(o.Object) == 0 {
			continue // comments
		}
		kind, _ := meta.UnsafeGuessKindToResource(o.GroupVersionKind())
		if _, err := l.any.Resource(kind).Namespace(o.GetNamespace()).Apply(ctx, o.GetName(), o, metav1.ApplyOptions{FieldManager: "demo", Force: true}); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		l.mu.Lock()
		l.applied[name] = append(l.applied[name], applied{kind, o.GetNamespace(), o.GetName()})
		l.mu.Unlock()
	}
	return nil
}

// Remove is part of demo.Lab.
func (l *demoLab) Remove(ctx context.Context, name string) error {
	l.mu.Lock()
	all := l.applied[name]
	delete(l.applied, name)
	l.mu.Unlock()
	var errs []error
	for _, o := range all {
		err := l.any.Resource(o.kind).Namespace(o.namespace).Delete(ctx, o.name, metav1.DeleteOptions{})
		if !apierrors.IsNotFound(err) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
