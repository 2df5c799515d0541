package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/ambit-mesh/ambit/test/demo"
	"github.com/ambit-mesh/ambit/test/netlab"
)

// Deploy is part of demo.Lab. Deployments run our image in place of theirs, which is on no node, and have no probes: their
// servers are started by the checks.
func (l *demoLab) Deploy(ctx context.Context, dir string, label func(map[string]string)) (out []demo.Deployed, err error) {
	documents, err := manifests(dir)
	if err != nil {
		return nil, err
	}
	// Namespaces first, then accounts: a file's name says nothing.
	for _, kind := range []string{"Namespace", "ServiceAccount", "Service", "Deployment"} {
		for _, text := range documents {
			var meta metav1.TypeMeta
			if err := yaml.Unmarshal(text, &meta); err != nil {
				return nil, err
			}
			if meta.Kind == kind {
				d, err := l.deployOne(ctx, kind, text, label)
				if err != nil {
					return nil, err
				}
				if d != nil {
					out = append(out, demo.Deployed{Deployment: d.Namespace + "/" + d.Name, Ports: d.Spec.Template.Spec.Containers[0].Ports, Pod: netlab.Pod{Namespace: d.Namespace, Name: d.Name}})
				}
			}
		}
	}
	return l.deployedPods(ctx, out)
}

// deployOne makes one object, and answers it if it is a Deployment.
func (l *demoLab) deployOne(ctx context.Context, kind string, text []byte, label func(map[string]string)) (*appsv1.Deployment, error) {
	switch kind {
	case "Namespace":
		var o corev1.Namespace
		if err := yaml.UnmarshalStrict(text, &o); err != nil {
			return nil, err
		}
		if label != nil && o.Labels != nil {
			label(o.Labels)
		}
		return nil, l.SetNamespace(ctx, o.Name, o.Labels)
	case "ServiceAccount":
		var o corev1.ServiceAccount
		if err := yaml.UnmarshalStrict(text, &o); err != nil {
			return nil, err
		}
		return nil, l.addAccount(ctx, o.Namespace, o.Name)
	case "Service":
		o := &corev1.Service{}
		if err := yaml.UnmarshalStrict(text, o); err != nil {
			return nil, err
		}
		_, err := l.addService(ctx, o)
		return nil, err
	}
	o := &appsv1.Deployment{}
	if err := yaml.UnmarshalStrict(text, o); err != nil {
		return nil, err
	}
	o.Spec.Template.Spec = l.demoPod(o.Spec.Template.Spec.ServiceAccountName, o.Spec.Template.Spec.Containers[0].Ports)
	return l.kube.AppsV1().Deployments(o.Namespace).Create(ctx, o, metav1.CreateOptions{})
}

// deployedPods waits for the pods of Deployments, of which it is given one entry each.
func (l *demoLab) deployedPods(ctx context.Context, deployments []demo.Deployed) (out []demo.Deployed, err error) {
	for _, d := range deployments {
		var pods *corev1.PodList
		if err := poll(ctx, time.Minute, func() error {
			o, err := l.kube.AppsV1().Deployments(d.Namespace).Get(ctx, d.Name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			pods, err = l.kube.CoreV1().Pods(d.Namespace).List(ctx, metav1.ListOptions{LabelSelector: metav1.FormatLabelSelector(o.Spec.Selector)})
			if err == nil && len(pods.Items) != int(*o.Spec.Replicas) {
				err = fmt.Errorf("%s has %d pods, want %d", d.Deployment, len(pods.Items), *o.Spec.Replicas)
			}
			return err
		}); err != nil {
			return nil, err
		}
		for _, o := range pods.Items {
			if d.Pod, err = l.runs(ctx, o.Namespace, o.Name); err != nil {
				return nil, err
			}
			out = append(out, d)
		}
	}
	return out, nil
}

// manifests reads the documents of a folder's files, in order.
func manifests(dir string) (out [][]byte, err error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("no manifests in %s", dir)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		for document := range strings.SplitSeq(string(text), "\n---\n") {
			out = append(out, []byte(document))
		}
	}
	return out, nil
}
