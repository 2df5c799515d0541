package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/ambit-mesh/ambit/test/netlab"
)

// machineFiles are what a pod of the demo has of the machine, so that the machine's nginx, redis and PostgreSQL run in it; the
// image holds labprog only. A machine need not have all of them.
var machineFiles = []string{"/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc/passwd", "/etc/group", "/etc/postgresql-common"}

// demoPod is the spec of a pod in which programs can be started. Its own files are gone with it.
func (l *demoLab) demoPod(account string, ports []corev1.ContainerPort) corev1.PodSpec {
	no, second := false, int64(1)
	c := corev1.Container{
		Name: "main", Image: "docker.io/ambit/labprog:dev", ImagePullPolicy: corev1.PullIfNotPresent, Ports: ports,
		Args: []string{"attend", "--socket", l.socket("$(POD_UID)")},
		Env: []corev1.EnvVar{
			{Name: "POD_UID", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.uid"}}},
			{Name: "PATH", Value: "/:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
			{Name: "LANG", Value: "C.UTF-8"},
			{Name: "LC_ALL", Value: "C.UTF-8"},
		},
	}
	spec := corev1.PodSpec{ServiceAccountName: account, AutomountServiceAccountToken: &no, EnableServiceLinks: &no, TerminationGracePeriodSeconds: &second}
	mount := func(path string, readOnly bool, source corev1.VolumeSource) {
		name := fmt.Sprintf("v%d", len(spec.Volumes))
		spec.Volumes = append(spec.Volumes, corev1.Volume{Name: name, VolumeSource: source})
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: name, MountPath: path, ReadOnly: readOnly})
	}
	for _, path := range machineFiles {
		if _, err := os.Stat(path); err == nil {
			mount(path, true, corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: path}})
		}
	}
	mount(l.dir, false, corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: l.dir}})
	mount("/tmp", false, corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}})
	spec.Containers = []corev1.Container{c}
	return spec
}

// socket of a pod's first process.
func (l *demoLab) socket(uid string) string { return filepath.Join(l.dir, "sockets", uid) }

// AddPods is part of demo.Lab.
func (l *demoLab) AddPods(ctx context.Context, specs ...netlab.PodSpec) ([]netlab.Pod, error) {
	pods := make([]netlab.Pod, len(specs))
	for _, s := range specs { // accounts are shared
		if err := errors.Join(l.SetNamespace(ctx, s.Namespace, nil), l.addAccount(ctx, s.Namespace, s.ServiceAccount)); err != nil {
			return nil, err
		}
	}
	var group errgroup.Group // not ended by the first error: what was made is answered
	for i, s := range specs {
		group.Go(func() (err error) {
			pods[i], err = l.addPod(ctx, s)
			return err
		})
	}
	err := group.Wait()
	return slices.DeleteFunc(pods, func(p netlab.Pod) bool { return p.Name == "" }), err
}

func (l *demoLab) addAccount(ctx context.Context, namespace, name string) error {
	_, err := l.kube.CoreV1().ServiceAccounts(namespace).Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

func (l *demoLab) addPod(ctx context.Context, s netlab.PodSpec) (netlab.Pod, error) {
	o := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: s.Name, Labels: s.Labels, Annotations: s.Annotations}}
	o.Spec = l.demoPod(s.ServiceAccount, s.Ports)
	o.Spec.NodeSelector = map[string]string{corev1.LabelHostname: s.Node}
	if s.HTTPProbe != 0 {
		o.Spec.Containers[0].ReadinessProbe = &corev1.Probe{
			ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/", Port: intstr.FromInt32(int32(s.HTTPProbe))}},
			PeriodSeconds: 1, FailureThreshold: 1,
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Sysctls)) {
		if o.Spec.SecurityContext == nil {
			o.Spec.SecurityContext = &corev1.PodSecurityContext{}
		}
		o.Spec.SecurityContext.Sysctls = append(o.Spec.SecurityContext.Sysctls, corev1.Sysctl{Name: name, Value: s.Sysctls[name]})
	}
	if err := poll(ctx, 30*time.Second, func() error { // one of that name may be about to go
		_, err := l.kube.CoreV1().Pods(s.Namespace).Create(ctx, o, metav1.CreateOptions{})
		return err
	}); err != nil {
		return netlab.Pod{}, err
	}
	return l.runs(ctx, s.Namespace, s.Name)
}

// runs waits until a pod has its addresses and its first process takes orders.
func (l *demoLab) runs(ctx context.Context, namespace, name string) (pod netlab.Pod, err error) {
	err = poll(ctx, time.Minute, func() error {
		o, err := l.kube.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if o.Status.Phase != corev1.PodRunning || len(o.Status.PodIPs) < 2 {
			return fmt.Errorf("pod %s/%s is %s, with addresses %v: %v", namespace, name, o.Status.Phase, o.Status.PodIPs, o.Status.ContainerStatuses)
		}
		p := netlab.Pod{Namespace: namespace, Name: name, UID: string(o.UID), Node: o.Spec.NodeName}
		for _, ip := range o.Status.PodIPs {
			addr, err := netip.ParseAddr(ip.IP)
			if err != nil {
				return err
			}
			p.IPs = append(p.IPs, addr)
		}
		slices.SortStableFunc(p.IPs, func(a, b netip.Addr) int { return a.BitLen() - b.BitLen() })
		if _, err := l.firstProcess(l.socket(p.UID)); err != nil {
			return err
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.sockets[p.Ref()] = l.socket(p.UID)
		pod = p
		return nil
	})
	return pod, err
}

// DeletePod is part of demo.Lab. The kubelet ends the pod after it has returned.
func (l *demoLab) DeletePod(ctx context.Context, ref string) error {
	namespace, name, _ := strings.Cut(ref, "/")
	return l.kube.CoreV1().Pods(namespace).Delete(ctx, name, metav1.DeleteOptions{})
}
