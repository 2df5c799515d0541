package netlab

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// Deploy reads a folder of manifests and does what a cluster's controllers would: Namespaces, ServiceAccounts and Services
// appear (Services with virtual addresses), Deployments become pods named <deployment>-<n>, in turn on the nodes. Programs
// are not started: images mean nothing here. label may change a namespace's labels before they are set; nil leaves them.
func (l *Lab) Deploy(ctx context.Context, dir string, label func(map[string]string)) ([]Pod, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("no manifests in %s", dir)
	}
	var deployments []appsv1.Deployment
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		for _, doc := range bytes.Split(content, []byte("\n---\n")) {
			d, err := l.deployDocument(doc, label)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
			if d != nil {
				deployments = append(deployments, *d)
			}
		}
	}
	return l.deployPods(ctx, deployments)
}

// deployDocument handles everything but a Deployment, which it returns.
func (l *Lab) deployDocument(doc []byte, label func(map[string]string)) (*appsv1.Deployment, error) {
	var meta metav1.TypeMeta
	if err := yaml.Unmarshal(doc, &meta); err != nil {
		return nil, err
	}
	switch meta.Kind {
	case "Namespace":
		var o corev1.Namespace
		if err := yaml.UnmarshalStrict(doc, &o); err != nil {
			return nil, err
		}
		labels := maps.Clone(o.Labels)
		if label != nil && labels != nil {
			label(labels)
		}
		return nil, l.SetNamespace(o.Name, labels)
	case "ServiceAccount":
		o := &corev1.ServiceAccount{}
		if err := yaml.UnmarshalStrict(doc, o); err != nil {
			return nil, err
		}
		return nil, l.Put(o)
	case "Service":
		o := &corev1.Service{}
		if err := yaml.UnmarshalStrict(doc, o); err != nil {
			return nil, err
		}
		return nil, l.AddService(o)
	case "Deployment":
		o := &appsv1.Deployment{}
		return o, yaml.UnmarshalStrict(doc, o)
	case "":
		return nil, nil // an empty document
	}
	return nil, fmt.Errorf("a %s is nothing the lab can deploy", meta.Kind)
}

func (l *Lab) deployPods(ctx context.Context, deployments []appsv1.Deployment) ([]Pod, error) {
	nodes, err := l.Nodes()
	if err != nil {
		return nil, err
	}
	var pods []Pod
	for _, d := range deployments {
		for i := range *d.Spec.Replicas {
			t := d.Spec.Template
			spec := PodSpec{
				Namespace: d.Namespace, Name: fmt.Sprintf("%s-%d", d.Name, i+1), Node: nodes[len(pods)%len(nodes)].Name,
				ServiceAccount: t.Spec.ServiceAccountName, Labels: t.Labels, Annotations: t.Annotations,
			}
			for _, c := range t.Spec.Containers {
				spec.Ports = slices.Concat(spec.Ports, c.Ports)
			}
			pod, err := l.AddPod(ctx, spec)
			if err != nil {
				return pods, err
			}
			pods = append(pods, pod)
		}
	}
	return pods, nil
}
