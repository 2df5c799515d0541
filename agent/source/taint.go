package source

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Untaint takes every taint of that key off the agent's node and says whether there was one. A node that somebody else changes
// at the same moment is an error (a conflict): no taint of theirs may be lost. It needs get and patch on nodes.
func (k *Kubernetes) Untaint(ctx context.Context, key string) (removed bool, err error) {
	node, err := k.client.CoreV1().Nodes().Get(ctx, k.node, metav1.GetOptions{})
	if err != nil {
		return false, fmt.Errorf("taint %s of node %s: %w", key, k.node, err)
	}
	rest := slices.DeleteFunc(slices.Clone(node.Spec.Taints), func(t corev1.Taint) bool { return t.Key == key })
	if len(rest) == len(node.Spec.Taints) {
		return false, nil
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": node.UID, "resourceVersion": node.ResourceVersion}, // the API server compares them
		"spec":     map[string]any{"taints": rest},
	})
	if err != nil {
		return false, fmt.Errorf("taint %s of node %s: %w", key, k.node, err)
	}
	if _, err := k.client.CoreV1().Nodes().Patch(ctx, k.node, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		return false, fmt.Errorf("taint %s of node %s: %w", key, k.node, err)
	}
	return true, nil
}
