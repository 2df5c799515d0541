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
		for _, port := range append(slices.Clone(pod.Ports), corev1.ContainerPort{Name: "unlisted", ContainerPort: unlistedPort}) {
			spec := netlab.Spec{Name: processName(pod.Pod, port.Name), Argv: []string{"labprog", "echo", "--listen", fmt.Sprintf(":%d", port.ContainerPort)}}
			if err := w.start(ctx, pod.Pod, spec, int(port.ContainerPort)); err != nil {
				return err
			}
		}
	}
	for _, file := range []string{"peer-authentication-strict.yaml", "authorization-policy.yaml"} {
		content, err := os.ReadFile(filepath.Join(w.Samples, "security", file))
		if err != nil {
			return err
		}
		if err := w.Lab.Apply(ctx, file, content); err != nil {
			return err
		}
	}
	w.shop = pods
	return nil
}

// unlistedPort is served by every pod of the shop and named in no policy.
const unlistedPort = 7777

// shopPod finds a pod of one of the shop's Deployments; the first if there are several.
func (w *World) shopPod(ref string) (netlab.Pod, error) {
	if i := slices.IndexFunc(w.shop, func(d Deployed) bool { return d.Deployment == ref }); i >= 0 {
		return w.shop[i].Pod, nil
	}
	return netlab.Pod{}, errors.New("no Deployment " + ref + " in the samples")
}
