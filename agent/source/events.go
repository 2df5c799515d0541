package source

import (
	"context"

	"github.com/ambit-mesh/ambit/agent/pods"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"
)

// Limits of events: of each pod a few at once, then one in five minutes. What is beyond is dropped: the log, the metric and
// /status have it. Many alike are counted up in one object.
const (
	eventBurst   = 5
	eventRate    = 1.0 / 300 // a second
	eventMessage = 1000      // bytes; the API server takes 1024
)

// component is the name of the events' author.
const component = "ambit-agent"

// startEvents makes a recorder of events on pods and the node, which works in the background until stop.
func startEvents(ctx context.Context, client kubernetes.Interface, node string) (to record.EventRecorder, stop func()) {
	b := record.NewBroadcaster(record.WithContext(ctx), record.WithCorrelatorOptions(record.CorrelatorOptions{BurstSize: eventBurst, QPS: eventRate}))
	b.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: client.CoreV1().Events("")})
	return b.NewRecorder(scheme.Scheme, corev1.EventSource{Component: component, Host: node}), b.Shutdown
}

// Warn tells those who look at the pod (kubectl describe) what is wrong with it. It does not wait for the API server and is
// rate limited; before and after Run it does nothing. It needs create and patch on events.
func (k *Kubernetes) Warn(key pods.Key, uid pods.UID, reason, message string) {
	to := k.events.Load()
	if to == nil {
		return
	}
	(*to).Event(&corev1.ObjectReference{
		APIVersion: "v1", Kind: "Pod", Namespace: key.Namespace, Name: key.Name, UID: types.UID(uid),
	}, corev1.EventTypeWarning, reason, clip(message))
}
