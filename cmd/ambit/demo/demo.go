// Package demo is `ambit demo`: a lab of its own, the checks of test/demo in it, a report, and everything removed again.
package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/ambit-mesh/ambit/cmd/ambit/lab"
	"github.com/ambit-mesh/ambit/test/demo"
	"github.com/ambit-mesh/ambit/test/netlab"
	"github.com/ambit-mesh/ambit/test/netlab/mesh"
)

type options struct {
	name, report, bin, cniBin, samples string
	keep, noEnrol                      bool
	only                               []int
	ttl                                time.Duration
}

// Command is `ambit demo`.
func Command() *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use: "demo", Short: "Show the mesh at work on real programs and check its promises", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context(), cmd.OutOrStdout()) },
	}
	f := cmd.Flags()
	f.StringVar(&o.name, "name", lab.DefaultName, "name of the lab")
	f.BoolVar(&o.keep, "keep", false, "leave the lab running at the end")
	f.StringVar(&o.report, "report", "", "file for the results as JSON")
	f.IntSliceVar(&o.only, "only", nil, "run these checks only")
	f.BoolVar(&o.noEnrol, "no-mesh", false, "put no workload into the mesh: shows which checks fail then")
	f.StringVar(&o.samples, "samples", filepath.Join("deploy", "samples"), "folder of the sample manifests")
	f.DurationVar(&o.ttl, "cert-ttl", 40*time.Second, "lifetime of workload certificates")
	f.StringVar(&o.bin, "bin", "", "folder of the mesh's programs (default: where this program is)")
	f.StringVar(&o.cniBin, "cni-bin", "", "folder of the CNI plugins (default: ../cni beside --bin)")
	return cmd
}

func (o options) run(ctx context.Context, out io.Writer) (err error) {
	begin := time.Now()
	c, err := lab.Config(o.name, o.bin, o.cniBin)
	if err != nil {
		return err
	}
	if err := mesh.Preflight(c.BinDir); err != nil {
		return err
	}
	fmt.Fprintf(out, "building lab %s: two nodes, pods, the mesh, workloads\n", o.name)
	l, err := netlab.Up(ctx, c)
	if err != nil {
		return err
	}
	defer func() {
		if o.keep {
			err = errors.Join(err, lab.Hints(out, l))
			return
		}
		err = errors.Join(err, l.Down(context.WithoutCancel(ctx)))
	}()
	m, err := mesh.Start(ctx, l, mesh.Options{CertTTL: o.ttl})
	if err != nil {
		return err
	}
	results, err := demo.Run(ctx, demo.Config{
		Enrol: !o.noEnrol, Only: o.only, Samples: o.samples, Out: out,
		Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	}.InLab(l, m))
	failed := 0
	for _, r := range results {
		if !r.OK {
			failed++
		}
	}
	fmt.Fprintf(out, "\n%d of %d held, in %s\n", len(results)-failed, len(results), time.Since(begin).Round(time.Second))
	if err := errors.Join(err, o.write(results)); err != nil {
		return err
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d did not hold", failed, len(results))
	}
	return nil
}

func (o options) write(results []demo.Result) error {
	if o.report == "" {
		return nil
	}
	if results == nil {
		results = []demo.Result{}
	}
	content, err := json.MarshalIndent(results, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(o.report), 0o755); err != nil {
		return err
	}
	return os.WriteFile(o.report, append(content, '\n'), 0o644)
}
