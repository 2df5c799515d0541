package netlab

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/uuid"
	corev1 "k8s.io/api/core/v1"
)

// Pod is one pod of the lab.
type Pod struct {
	Namespace string       `json:"namespace"`
	Name      string       `json:"name"`
	UID       string       `json:"uid"`
	Node      string       `json:"node"`
	Netns     string       `json:"netns"` // path
	IPs       []netip.Addr `json:"ips"`   // IPv4 first
}

// Ref is namespace/name.
func (p Pod) Ref() string { return p.Namespace + "/" + p.Name }

// IP4 and IP6 are the pod's addresses; invalid if it has none of that family.
func (p Pod) IP4() netip.Addr { return p.pick(netip.Addr.Is4) }
func (p Pod) IP6() netip.Addr { return p.pick(netip.Addr.Is6) }

func (p Pod) pick(family func(netip.Addr) bool) netip.Addr {
	if i := slices.IndexFunc(p.IPs, family); i >= 0 {
		return p.IPs[i]
	}
	return netip.Addr{}
}

// PodSpec says what pod to make.
type PodSpec struct {
	Namespace, Name, Node string
	ServiceAccount        string // default "default"
	Labels, Annotations   map[string]string
	Ports                 []corev1.ContainerPort
	// HTTPProbe is a port that the kubelet probes for readiness; 0 for none.
	HTTPProbe int
	// Sysctls are settings of the pod's network namespace, net.*, by name: they are there before its programs are.
	Sysctls map[string]string
	// NotReady makes the pod unready at first.
	NotReady bool
}

// AddPod makes a pod as a cluster would: the Pod object exists and is bound to its node, the container runtime makes its
// network namespace and calls CNI ADD, then addresses and readiness appear in its status. A pod whose ADD fails is removed
// again and the plugin's reason returned.
func (l *Lab) AddPod(ctx context.Context, spec PodSpec) (Pod, error) {
	pod := Pod{Namespace: spec.Namespace, Name: spec.Name, UID: uuid.NewString(), Node: spec.Node}
	pod.Netns = l.netnsPath(spec.Namespace + "-" + spec.Name)
	if _, err := l.Node(spec.Node); err != nil {
		return pod, fmt.Errorf("pod %s: %w", pod.Ref(), err)
	}
	if err := l.update(func(s *state) error {
		if slices.ContainsFunc(s.Pods, func(p Pod) bool { return p.Ref() == pod.Ref() }) {
			return fmt.Errorf("pod %s exists already", pod.Ref())
		}
		s.Pods = append(s.Pods, pod)
		return nil
	}); err != nil {
		return pod, err
	}
	if err := l.attachPod(ctx, &pod, spec); err != nil {
		return pod, fmt.Errorf("pod %s: %w", pod.Ref(), errors.Join(err, l.DeletePod(context.WithoutCancel(ctx), pod.Ref())))
	}
	return pod, nil
}

func (l *Lab) attachPod(ctx context.Context, pod *Pod, spec PodSpec) error {
	if err := l.ensureAccount(spec); err != nil {
		return err
	}
	object := podObject(*pod, spec)
	if err := l.Put(object); err != nil {
		return err
	}
	h, err := l.makeNetns(spec.Namespace + "-" + spec.Name)
	if err != nil {
		return err
	}
	defer h.Close()
	if err := makeCgroup(l.podCgroup(*pod)); err != nil {
		return err
	}
	if pod.IPs, err = l.cniAdd(ctx, *pod); err != nil {
		return err
	}
	if err := l.update(func(s *state) error {
		i := slices.IndexFunc(s.Pods, func(p Pod) bool { return p.UID == pod.UID })
		if i < 0 {
			return errors.New("deleted while it was made")
		}
		s.Pods[i] = *pod
		return nil
	}); err != nil {
		return err
	}
	dns, err := l.DNS()
	if err != nil {
		return err
	}
	if _, err := l.writeEtc(l.etcOf(*pod), pod.Name, resolvConf(dns, pod.Namespace)); err != nil {
		return err
	}
	for name, value := range spec.Sysctls {
		file := "/proc/sys/" + strings.ReplaceAll(name, ".", "/")
		out, err := l.Exec(ctx, Spec{Pod: pod.Ref(), Argv: []string{"sh", "-c", `echo "$1" >"$0"`, file, value}})
		if err := errors.Join(err, out.Err()); err != nil {
			return fmt.Errorf("setting %s: %w", name, err)
		}
	}
	return l.UpdatePod(pod.Ref(), func(o *corev1.Pod) { running(o, *pod, !spec.NotReady) })
}

// Pod finds a pod by namespace/name.
func (l *Lab) Pod(ref string) (Pod, error) {
	all, err := l.Pods()
	if err != nil {
		return Pod{}, err
	}
	i := slices.IndexFunc(all, func(p Pod) bool { return p.Ref() == ref })
	if i < 0 {
		return Pod{}, fmt.Errorf("lab %s has no pod %q", l.name, ref)
	}
	return all[i], nil
}

// DeletePod ends a pod as a cluster would: its programs die, CNI DEL, its namespace, its object.
func (l *Lab) DeletePod(ctx context.Context, ref string) error {
	pod, err := l.Pod(ref)
	if err != nil {
		return err
	}
	errs := []error{killCgroup(ctx, l.podCgroup(pod))}
	if _, err := os.Stat(pod.Netns); err == nil {
		errs = append(errs, l.cniDel(ctx, pod))
	}
	errs = append(errs, removeNetns(pod.Netns), l.deleteObject("Pod", pod.Namespace, pod.Name),
		removeCgroup(l.podCgroup(pod)), os.RemoveAll(l.etcOf(pod)))
	errs = append(errs, l.update(func(s *state) error {
		s.Pods = slices.DeleteFunc(s.Pods, func(p Pod) bool { return p.UID == pod.UID })
		s.Netns = slices.DeleteFunc(s.Netns, func(name string) bool { return name == filepath.Base(pod.Netns) })
		s.Processes = slices.DeleteFunc(s.Processes, func(p Process) bool { return p.Pod == ref })
		return nil
	}))
	return errors.Join(errs...)
}

func (l *Lab) podCgroup(pod Pod) string {
	return filepath.Join(l.cgroup(), pod.Node, "pods", pod.Namespace+"_"+pod.Name)
}

func (l *Lab) etcOf(pod Pod) string {
	return filepath.Join(l.NodeDir(pod.Node), "pods", pod.Namespace+"_"+pod.Name)
}

// containerID is what CNI calls the pod's sandbox.
func (p Pod) containerID() string {
	sum := sha256.Sum256([]byte(p.UID))
	return hex.EncodeToString(sum[:])
}

// resolvConf is what the kubelet writes for dnsPolicy ClusterFirst.
func resolvConf(dns, namespace string) []byte {
	return fmt.Appendf(nil, "search %s.svc.cluster.local svc.cluster.local cluster.local\nnameserver %s\noptions ndots:5\n", namespace, dns)
}

func (l *Lab) writeEtc(dir, hostname string, resolv []byte) (string, error) {
	hosts := "127.0.0.1 localhost\n::1 localhost ip6-localhost\n"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	return dir, errors.Join(
		os.WriteFile(filepath.Join(dir, "hosts"), []byte(hosts+"# "+strings.TrimSpace(hostname)+"\n"), 0o644),
		os.WriteFile(filepath.Join(dir, "resolv.conf"), resolv, 0o644))
}
