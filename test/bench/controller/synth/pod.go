package synth

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

var born = metav1.NewTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))

// Pod is pod i, of a Deployment, running and ready, with a revision.
func (c Cluster) Pod(i int, revision string) *corev1.Pod {
	ns, app := c.app(i / perService)
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: ns, Name: c.podName(i), GenerateName: app + "-" + hash(i/perService) + "-", UID: podUID(i), ResourceVersion: fmt.Sprint(1000 + i),
			CreationTimestamp: born,
			Labels: map[string]string{
				"app": app, "app.kubernetes.io/name": app, "app.kubernetes.io/part-of": ns, "pod-template-hash": hash(i / perService), Revision: revision,
			},
			Annotations: map[string]string{
				"ambient.istio.io/redirection": "enabled", "prometheus.io/scrape": "true", "kubectl.kubernetes.io/restartedAt": "2026-01-02T03:04:05Z",
			},
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: "apps/v1", Kind: "ReplicaSet", Name: app + "-" + hash(i/perService), UID: types.UID(hash(i)), Controller: ref(true), BlockOwnerDeletion: ref(true),
			}},
			ManagedFields: []metav1.ManagedFieldsEntry{
				{Manager: "kube-controller-manager", Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: "v1", Time: &born, FieldsV1: metav1.NewFieldsV1(strings.Repeat("f", 900))},
				{Manager: "kubelet", Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: "v1", Time: &born, FieldsV1: metav1.NewFieldsV1(strings.Repeat("f", 700))},
			},
		},
		Spec:   podSpec(Node(i%c.Nodes), app),
		Status: podStatus(podAddress(i), i%c.Nodes),
	}
	return p
}

func podSpec(node, account string) corev1.PodSpec {
	return corev1.PodSpec{
		NodeName: node, ServiceAccountName: account, DeprecatedServiceAccount: account, RestartPolicy: corev1.RestartPolicyAlways, DNSPolicy: corev1.DNSClusterFirst,
		TerminationGracePeriodSeconds: ref[int64](30), SchedulerName: "default-scheduler", Priority: ref[int32](0), EnableServiceLinks: ref(true),
		Containers: []corev1.Container{{
			Name: "main", Image: "registry.example/team/app:1.2.3", ImagePullPolicy: corev1.PullIfNotPresent,
			Ports: []corev1.ContainerPort{
				{Name: "http", ContainerPort: 8080, Protocol: corev1.ProtocolTCP}, {Name: "grpc", ContainerPort: 9090, Protocol: corev1.ProtocolTCP},
			},
			Env: []corev1.EnvVar{
				{Name: "LOG_LEVEL", Value: "info"},
				{Name: "DATABASE", Value: "postgres://db.example:5432/app"},
				{Name: "POD_NAME", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.name"}}},
			},
			ReadinessProbe: &corev1.Probe{
				ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/ready", Port: intstr.FromString("http"), Scheme: corev1.URISchemeHTTP}},
				PeriodSeconds: 10, TimeoutSeconds: 1, SuccessThreshold: 1, FailureThreshold: 3,
			},
			TerminationMessagePath: "/dev/termination-log", TerminationMessagePolicy: corev1.TerminationMessageReadFile,
			VolumeMounts: []corev1.VolumeMount{{Name: "kube-api-access", ReadOnly: true, MountPath: "/var/run/secrets/kubernetes.io/serviceaccount"}},
		}},
		Volumes: []corev1.Volume{{Name: "kube-api-access", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}},
		Tolerations: []corev1.Toleration{
			{Key: "node.kubernetes.io/not-ready", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: ref[int64](300)},
			{Key: "node.kubernetes.io/unreachable", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: ref[int64](300)},
		},
	}
}

func podStatus(ip string, node int) corev1.PodStatus {
	out := corev1.PodStatus{
		Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}}, HostIP: address4(192, 168, node), StartTime: &born, QOSClass: corev1.PodQOSBestEffort,
		ContainerStatuses: []corev1.ContainerStatus{{
			Name: "main", Ready: true, Started: ref(true), Image: "registry.example/team/app:1.2.3", ImageID: "registry.example/team/app@sha256:" + fmt.Sprintf("%064x", node),
			ContainerID: "containerd://" + fmt.Sprintf("%064x", node), State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: born}},
		}},
	}
	for _, t := range []corev1.PodConditionType{"PodReadyToStartContainers", corev1.PodInitialized, corev1.PodReady, corev1.ContainersReady, corev1.PodScheduled} {
		out.Conditions = append(out.Conditions, corev1.PodCondition{Type: t, Status: corev1.ConditionTrue, LastTransitionTime: born})
	}
	return out
}

func address4(a, b byte, i int) string { return fmt.Sprintf("%d.%d.%d.%d", a, b, i>>8&255, i&255) }
