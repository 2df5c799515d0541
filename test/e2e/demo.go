package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/ambit-mesh/ambit/test/demo"
)

// demoTTL is how long workload certificates live while the demo's checks run: one of them outlives them.
const demoTTL = 30 * time.Second

// demoNamespaces are those that the demo's checks make.
var demoNamespaces = []string{"demo", "plain", "shop", "ingress", "legacy"}

// demoChecks are the checks of `ambit demo`, the same code: pods of a cluster take the place of the lab's, and what the kubelet
// runs that of the mesh's processes.
func demoChecks() []Check {
	d := &demoRun{}
	out := []Check{{"the demo comes", []Step{
		{"certificates that live " + demoTTL.String(), d.shortLived},
		{"its workloads run", d.workloads},
	}}}
	for _, c := range demo.Checks() {
		out = append(out, d.check(c))
	}
	return append(out, Check{"the demo goes", []Step{
		{"its namespaces are gone", d.clear},
		{"certificates live as long as before", d.longLived},
	}})
}

// demoRun is what the demo's checks have in common.
type demoRun struct {
	lab   *demoLab
	world *demo.World
}

// check is one of the demo's as one of ours.
func (d *demoRun) check(c demo.Check) Check {
	out := Check{Name: "demo: " + c.Name}
	var prepared func() error
	for _, s := range c.Steps {
		out.Steps = append(out.Steps, Step{s.Name, func(ctx context.Context, w *World) (string, error) {
			if d.world == nil { // the checks that come first were left out, or failed
				if saw, err := d.workloads(ctx, w); err != nil {
					return saw, fmt.Errorf("the demo's workloads: %w", err)
				}
			}
			if prepared == nil { // once, and every step fails if that did
				var err error
				if c.Prepare != nil {
					err = c.Prepare(ctx, d.world)
				}
				prepared = func() error { return err }
			}
			if err := prepared(); err != nil {
				return "", fmt.Errorf("could not be prepared: %w", err)
			}
			defer d.lab.thaw() // whatever became of the step
			return s.Run(ctx, d.world)
		}})
	}
	return out
}

// shortLived replaces the ztunnels by some whose certificates live short, as a user would change a value.
func (d *demoRun) shortLived(ctx context.Context, w *World) (string, error) {
	return d.ztunnels(ctx, w, "demo", "ztunnel.certificateTTL="+demoTTL.String())
}

func (d *demoRun) longLived(ctx context.Context, w *World) (string, error) {
	return d.ztunnels(ctx, w, "chart")
}

func (d *demoRun) ztunnels(ctx context.Context, w *World, name string, values ...string) (string, error) {
	dir, err := w.chart(ctx, name, values...)
	if err != nil {
		return "", err
	}
	if _, err := w.kubectl(ctx, "apply", "--server-side", "--force-conflicts", "-f", filepath.Join(dir, "ambit.yaml")); err != nil {
		return "", err
	}
	began := time.Now()
	// All of it anew: a kubelet lets a container wait the longer the more often it has died, and the checks will kill each.
	if _, err := w.kubectl(ctx, "-n", "ambit-system", "rollout", "restart", "daemonset/ambit-agent", "daemonset/ambit-ztunnel", "deployment/ambit-controller"); err != nil {
		return "", err
	}
	if err := w.meshReady(ctx); err != nil {
		return "", err
	}
	lab, err := newDemoLab(w)
	if err != nil {
		return "", err
	}
	// The old ones finish what they have; the checks look at one ztunnel a node.
	err = poll(ctx, time.Minute, func() error {
		for app, count := range map[string]int{"ambit-agent": len(w.nodes), "ambit-ztunnel": len(w.nodes), "ambit-controller": controllers} {
			all, err := lab.podsOf(ctx, app, "")
			if err == nil && len(all) != count {
				err = fmt.Errorf("%d pods of %s", len(all), app)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	return fmt.Sprintf("the mesh's pods replaced within %s", time.Since(began).Round(time.Second)), err
}

// workloads makes the demo's own pods, after what an earlier run left.
func (d *demoRun) workloads(ctx context.Context, w *World) (string, error) {
	if _, err := d.clear(ctx, w); err != nil {
		return "", err
	}
	if _, err := output(exec.CommandContext(ctx, w.Cluster, "load", "--dir="+w.Dir, filepath.Join(w.Tree, "build/images/labprog.tar"))); err != nil {
		return "", err
	}
	lab, err := newDemoLab(w)
	if err != nil {
		return "", err
	}
	began := time.Now()
	d.lab = lab
	d.world, err = demo.Workloads(ctx, demo.Config{
		Lab: lab, Mesh: demoMesh{lab}, Enrol: true, Samples: filepath.Join(w.Tree, "deploy/samples"), Out: io.Discard, Log: slog.New(slog.DiscardHandler),
	})
	return fmt.Sprintf("9 pods, with servers in them, within %s", time.Since(began).Round(100*time.Millisecond)), err
}

// clear takes away what the demo's checks made.
func (d *demoRun) clear(ctx context.Context, w *World) (string, error) {
	if d.lab != nil {
		d.lab.close()
	}
	if _, err := w.kubectl(ctx, append([]string{"delete", "namespace", "--ignore-not-found", "--timeout=120s"}, demoNamespaces...)...); err != nil {
		return "", err
	}
	return "", os.RemoveAll(filepath.Join(w.Dir, "demo"))
}
