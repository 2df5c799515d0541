package netlab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"
)

// Object is any typed Kubernetes object with its kind set.
type Object interface {
	metav1.Object
	runtime.Object
}

func (l *Lab) objectFile(kind, namespace, name string) string {
	parts := []string{"lab", strings.ToLower(kind), namespace, name}
	if namespace == "" {
		parts = []string{"lab", strings.ToLower(kind), name}
	}
	return filepath.Join(l.Manifests(), strings.Join(parts, "_")+".yaml")
}

// Put writes an object into the manifest folder, replacing what it held of that name. Its kind must be set.
func (l *Lab) Put(o Object) error {
	kind := o.GetObjectKind().GroupVersionKind().Kind
	content, err := yaml.Marshal(o)
	if err != nil || kind == "" {
		return fmt.Errorf("manifest of %s %s/%s: %w", kind, o.GetNamespace(), o.GetName(), errors.Join(err, errNoKind(kind)))
	}
	return writeAtomic(l.objectFile(kind, o.GetNamespace(), o.GetName()), content)
}

func errNoKind(kind string) error {
	if kind == "" {
		return errors.New("no kind")
	}
	return nil
}

func (l *Lab) get(kind, namespace, name string, into any) error {
	content, err := os.ReadFile(l.objectFile(kind, namespace, name))
	if err != nil {
		return fmt.Errorf("%s %s/%s: %w", kind, namespace, name, err)
	}
	return yaml.Unmarshal(content, into)
}

func (l *Lab) deleteObject(kind, namespace, name string) error {
	err := os.Remove(l.objectFile(kind, namespace, name))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// Apply puts a manifest file of the user into the folder under a name; Remove takes it away again.
func (l *Lab) Apply(name string, manifest []byte) error {
	return writeAtomic(l.userFile(name), manifest)
}

// Remove takes away what Apply put there.
func (l *Lab) Remove(name string) error {
	err := os.Remove(l.userFile(name))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

func (l *Lab) userFile(name string) string {
	return filepath.Join(l.Manifests(), "user_"+strings.TrimSuffix(filepath.Base(name), ".yaml")+".yaml")
}

// SetNamespace makes a namespace or sets its labels; a label with an empty value is removed.
func (l *Lab) SetNamespace(name string, labels map[string]string) error {
	ns := &corev1.Namespace{}
	if err := l.get("Namespace", "", name, ns); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	ns.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"}
	ns.Name = name
	ns.Labels = merge(ns.Labels, labels)
	ns.Labels["kubernetes.io/metadata.name"] = name
	return l.Put(ns)
}

func merge(have, change map[string]string) map[string]string {
	out := map[string]string{}
	for _, m := range []map[string]string{have, change} {
		for k, v := range m {
			if v == "" {
				delete(out, k)
				continue
			}
			out[k] = v
		}
	}
	return out
}

// UpdatePod changes a Pod object.
func (l *Lab) UpdatePod(ref string, change func(*corev1.Pod)) error {
	namespace, name, _ := strings.Cut(ref, "/")
	pod := &corev1.Pod{}
	// The lock keeps two changes of one pod from undoing each other.
	return l.update(func(*state) error {
		if err := l.get("Pod", namespace, name, pod); err != nil {
			return err
		}
		change(pod)
		return l.Put(pod)
	})
}

// SetReady changes a pod's readiness, as the kubelet does after a probe.
func (l *Lab) SetReady(ref string, ready bool) error {
	return l.UpdatePod(ref, func(p *corev1.Pod) { setReady(p, ready) })
}

// Ready reads a pod's readiness from its object.
func (l *Lab) Ready(ref string) (bool, error) {
	namespace, name, _ := strings.Cut(ref, "/")
	var pod corev1.Pod
	if err := l.get("Pod", namespace, name, &pod); err != nil {
		return false, err
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue, nil
		}
	}
	return false, nil
}

// SetPodLabels sets labels; one with an empty value is removed.
func (l *Lab) SetPodLabels(ref string, labels map[string]string) error {
	return l.UpdatePod(ref, func(p *corev1.Pod) { p.Labels = merge(p.Labels, labels) })
}

// PutService makes a Service with virtual addresses of both families. Ports is service port to target port.
func (l *Lab) PutService(namespace, name string, selector map[string]string, ports map[int]int) (*corev1.Service, error) {
	svc := &corev1.Service{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Service"}}
	svc.Namespace, svc.Name = namespace, name
	svc.Spec.Selector = selector
	for port, target := range ports {
		svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{
			Name: fmt.Sprintf("tcp-%d", port), Protocol: corev1.ProtocolTCP, Port: int32(port), TargetPort: intstr.FromInt(target),
		})
	}
	return svc, l.AddService(svc)
}

// AddService gives a Service virtual addresses of both families and puts it into the folder.
func (l *Lab) AddService(svc *corev1.Service) error {
	if svc.Spec.ClusterIP != corev1.ClusterIPNone {
		both := corev1.IPFamilyPolicyRequireDualStack
		svc.Spec.IPFamilyPolicy = &both
		svc.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
		if err := l.update(func(s *state) error {
			s.Services++
			svc.Spec.ClusterIPs = serviceIPs(s.Services)
			return nil
		}); err != nil {
			return err
		}
		svc.Spec.ClusterIP = svc.Spec.ClusterIPs[0]
	}
	return l.Put(svc)
}

func (l *Lab) ensureAccount(spec PodSpec) error {
	if err := l.SetNamespace(spec.Namespace, nil); err != nil {
		return err
	}
	account := &corev1.ServiceAccount{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ServiceAccount"}}
	account.Namespace, account.Name = spec.Namespace, spec.account()
	return l.Put(account)
}

func (s PodSpec) account() string {
	if s.ServiceAccount == "" {
		return "default"
	}
	return s.ServiceAccount
}

func nodeObject(n Node) *corev1.Node {
	o := &corev1.Node{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"}}
	o.Name = n.Name
	o.Labels = map[string]string{
		"kubernetes.io/hostname": n.Name, "topology.kubernetes.io/region": "lab", "topology.kubernetes.io/zone": "zone-" + n.Name,
	}
	for _, net := range n.PodNets {
		o.Spec.PodCIDRs = append(o.Spec.PodCIDRs, net.String())
	}
	o.Spec.PodCIDR = o.Spec.PodCIDRs[0]
	for _, ip := range n.IPs {
		o.Status.Addresses = append(o.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: ip.String()})
	}
	return o
}

func podObject(p Pod, spec PodSpec) *corev1.Pod {
	o := &corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}}
	o.Namespace, o.Name, o.UID = p.Namespace, p.Name, metaUID(p.UID)
	o.Labels = merge(nil, spec.Labels)
	// Labs have the same addresses, so an agent cannot always tell a namespace by the address in it; the name is a hint to it.
	o.Annotations = merge(spec.Annotations, map[string]string{"ambit.io/netns": filepath.Base(p.Netns)})
	o.CreationTimestamp = metav1.NewTime(time.Now().Truncate(time.Second))
	o.Spec.NodeName, o.Spec.ServiceAccountName = p.Node, spec.account()
	c := corev1.Container{Name: "main", Image: "lab", Ports: spec.Ports}
	if spec.HTTPProbe != 0 {
		c.ReadinessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/", Port: intstr.FromInt(spec.HTTPProbe)}}}
	}
	o.Spec.Containers = []corev1.Container{c}
	o.Status.Phase = corev1.PodPending
	return o
}

// running is what the kubelet reports once the sandbox and the containers run.
func running(o *corev1.Pod, p Pod, ready bool) {
	o.Status.Phase = corev1.PodRunning
	o.Status.PodIPs = nil
	for _, ip := range p.IPs {
		o.Status.PodIPs = append(o.Status.PodIPs, corev1.PodIP{IP: ip.String()})
	}
	if len(p.IPs) > 0 {
		o.Status.PodIP = p.IPs[0].String()
	}
	setReady(o, ready)
}

func setReady(o *corev1.Pod, ready bool) {
	status := corev1.ConditionFalse
	if ready {
		status = corev1.ConditionTrue
	}
	now := metav1.NewTime(time.Now().Truncate(time.Second))
	o.Status.Conditions = []corev1.PodCondition{
		{Type: corev1.PodReady, Status: status, LastTransitionTime: now},
		{Type: corev1.ContainersReady, Status: status, LastTransitionTime: now},
	}
}
