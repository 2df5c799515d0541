package kube

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ambit-mesh/ambit/controller/objects"
)

// MeshConfig is the text of MeshConfig in the root namespace as it is now; "" if there is none. It is for what must be known
// before anything is watched. Any other failure to read is an error: a guess would be worse than no start.
func (c *Cluster) MeshConfig(ctx context.Context, rootNamespace string) (string, error) {
	cm, err := c.reads.CoreV1().ConfigMaps(rootNamespace).Get(ctx, objects.MeshConfigName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("config map %s/%s: %w", rootNamespace, objects.MeshConfigName, err)
	}
	return cm.Data[objects.MeshConfigKey], nil
}
