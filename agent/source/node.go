package source

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

// nodeReference names a node as the kubelet's own events do, whose uid is the name: kubectl describe node looks for that.
func nodeReference(node string) *corev1.ObjectReference {
	return &corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: node, UID: types.UID(node)}
}

// WarnNode tells those who look at the node what is wrong with the mesh there, as Warn does for pods.
func (k *Kubernetes) WarnNode(reason, message string) {
	if to := k.events.Load(); to != nil {
		(*to).Event(nodeReference(k.node), corev1.EventTypeWarning, reason, clip(message))
	}
}

// TellNode writes one event on the node and waits for the API server: for an agent that is about to end. It needs create on
// events of the namespace default.
func TellNode(ctx context.Context, client kubernetes.Interface, node, reason, message string) error {
	now := metav1.Now()
	event := &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: fmt.Sprintf("%s.%x", node, time.Now().UnixNano())},
		InvolvedObject: *nodeReference(node), Type: corev1.EventTypeWarning, Reason: reason, Message: clip(message),
		Source: corev1.EventSource{Component: component, Host: node}, Count: 1, FirstTimestamp: now, LastTimestamp: now,
	}
	if _, err := client.CoreV1().Events(metav1.NamespaceDefault).Create(ctx, event, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("event on node %s: %w", node, err)
	}
	return nil
}

// clip keeps a message as short as the API server wants it.
func clip(message string) string {
	if len(message) > eventMessage {
		return strings.ToValidUTF8(message[:eventMessage], "") + " ..."
	}
	return message
}
