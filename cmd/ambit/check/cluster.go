package check

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// page bounds each answer of the API server.
const page = 500

func connect(kubeconfig, kubecontext string) (kubernetes.Interface, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = kubeconfig
	cfg, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: kubecontext}).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("kubernetes configuration: %w", err)
	}
	c, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("kubernetes client: %w", err)
	}
	return c, nil
}

// read asks for everything that is judged. What its user may not read is noted; an API server that does not answer is an error.
func read(ctx context.Context, c kubernetes.Interface, system string) (f facts, err error) {
	version, err := c.Discovery().ServerVersion()
	if err != nil {
		return f, fmt.Errorf("API server: %w", err)
	}
	f.version = version.GitVersion
	unread := func(what string, err error) {
		if err != nil {
			f.unread = append(f.unread, fmt.Sprintf("%s cannot be read: %v", what, err))
		}
	}
	_, lists, err := c.Discovery().ServerGroupsAndResources()
	unread("some resources", err)
	for _, l := range lists {
		group, _, _ := strings.Cut(l.GroupVersion, "/")
		for _, r := range l.APIResources {
			f.resources = append(f.resources, r.Name+"."+group)
		}
	}
	unread("nodes", each(func(o metav1.ListOptions) (string, error) {
		l, err := c.CoreV1().Nodes().List(ctx, o)
		if err != nil {
			return "", err
		}
		for _, n := range l.Items {
			f.nodes = append(f.nodes, node{n.Name, n.Status.NodeInfo.OperatingSystem, n.Status.NodeInfo.KernelVersion})
		}
		return l.Continue, nil
	}))
	unread("daemonsets", each(func(o metav1.ListOptions) (string, error) {
		l, err := c.AppsV1().DaemonSets("").List(ctx, o)
		if err != nil {
			return "", err
		}
		for _, d := range l.Items {
			f.daemonSets = append(f.daemonSets, d.Namespace+"/"+d.Name)
		}
		return l.Continue, nil
	}))
	unread("namespaces", each(func(o metav1.ListOptions) (string, error) {
		l, err := c.CoreV1().Namespaces().List(ctx, o)
		if err != nil {
			return "", err
		}
		for _, n := range l.Items {
			f.namespaces = append(f.namespaces, namespace{n.Name, n.Labels, n.Annotations})
		}
		return l.Continue, nil
	}))
	unread("pods of "+system, each(func(o metav1.ListOptions) (string, error) {
		o.LabelSelector = "app.kubernetes.io/part-of=ambit"
		l, err := c.CoreV1().Pods(system).List(ctx, o)
		if err != nil {
			return "", err
		}
		for _, p := range l.Items {
			f.own = append(f.own, halted(&p)...)
		}
		return l.Continue, nil
	}))
	newest := map[string]corev1.Event{}
	unread("events", each(func(o metav1.ListOptions) (string, error) {
		o.FieldSelector = "involvedObject.kind=Node,source=ambit-agent"
		l, err := c.CoreV1().Events(metav1.NamespaceDefault).List(ctx, o)
		if err != nil {
			return "", err
		}
		for _, e := range l.Items {
			key := e.InvolvedObject.Name + " " + e.Reason
			if old, ok := newest[key]; e.Source.Component == "ambit-agent" && (!ok || old.LastTimestamp.Before(&e.LastTimestamp)) {
				newest[key] = e
			}
		}
		return l.Continue, nil
	}))
	for _, e := range newest {
		f.complaints = append(f.complaints, fmt.Sprintf("node %s: %s: %s", e.InvolvedObject.Name, e.Reason, e.Message))
	}
	slices.Sort(f.complaints)
	cilium, err := c.CoreV1().ConfigMaps(metav1.NamespaceSystem).Get(ctx, "cilium-config", metav1.GetOptions{})
	switch {
	case err == nil:
		f.cilium = cilium.Data
	case !apierrors.IsNotFound(err):
		unread("Cilium's configuration", err)
	}
	return f, nil
}

// each lists page by page; list answers how to go on, and an empty list with its error.
func each(list func(metav1.ListOptions) (string, error)) error {
	o := metav1.ListOptions{Limit: page}
	for {
		more, err := list(o)
		if err != nil || more == "" {
			return err
		}
		o.Continue = more
	}
}

// halted are the containers of a pod that do not run, or the pod itself where it is on no node.
func halted(p *corev1.Pod) (list []container) {
	name := p.Namespace + "/" + p.Name
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			list = append(list, container{name, cmp.Or(c.Reason, "Pending"), c.Message})
		}
	}
	for _, s := range p.Status.ContainerStatuses {
		w := s.State.Waiting
		if w == nil || w.Reason == "ContainerCreating" {
			continue
		}
		message := w.Message
		if last := s.LastTerminationState.Terminated; last != nil && last.Message != "" {
			message = last.Message // its last words say more than that it is restarted
		}
		list = append(list, container{name, w.Reason, message})
	}
	return list
}
