package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/ambit-mesh/ambit/test/netlab"
)

// openShop makes the workloads of deploy/samples/shop, with a server on each of their ports, and applies the samples of
// deploy/samples/security, unless that was done before.
func (w *World) openShop(ctx context.Context) error {
	if w.shop != nil {
		return nil
	}
	pods, err := w.Lab.Deploy(ctx, filepath.Join(w.Samples, "shop"), func(labels map[string]string) {
		if !w.Enrol {
			delete(labels, enrolLabel)
		}
	})
	if err != nil {
		return err
	}
	for _, pod := range pods {
		var ports []corev1.ContainerPort
		if err := w.Lab.UpdatePod(pod.Ref(), func(o *corev1.Pod) { ports = o.Spec.Containers[0].Ports }); err != nil {
			return err
		}
		for _, port := range append(ports, corev1.ContainerPort{Name: "unlisted", ContainerPort: unlistedPort}) {
			spec := netlab.Spec{Name: processName(pod, port.Name), Argv: []string{"labprog", "echo", "--listen", fmt.Sprintf(":%d", port.ContainerPort)}}
			if err := w.start(ctx, pod, spec, int(port.ContainerPort)); err != nil {
				return err
			}
		}
	}
	for _, file := range []string{"peer-authentication-strict.yaml", "authorization-policy.yaml"} {
		content, err := os.ReadFile(filepath.Join(w.Samples, "security", file))
		if err != nil {
			return err
		}
		if err := w.Lab.Apply(file, content); err != nil {
			return err
		}
	}
	w.shop = pods
	return nil
}

// unlistedPort is served by every pod of the shop and named in no policy.
const unlistedPort = 7777

// shopPod finds a pod of the shop; the first if there are several.
func (w *World) shopPod(ref string) (netlab.Pod, error) {
	if i := slices.IndexFunc(w.shop, func(p netlab.Pod) bool { return p.Ref() == ref+"-1" }); i >= 0 {
		return w.shop[i], nil
	}
	return netlab.Pod{}, errors.New("no pod " + ref + "-1 in the samples")
}
