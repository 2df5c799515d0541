package lab

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/ambit-mesh/ambit/test/demo"
	"github.com/ambit-mesh/ambit/test/netlab"
	"github.com/ambit-mesh/ambit/test/netlab/mesh"
)

func upCommand(o *options) *cobra.Command {
	var empty, plain bool
	var opts mesh.Options
	cmd := &cobra.Command{
		Use: "up", Short: "Build a lab, start the mesh in it, and some workloads", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			c, err := Config(o.name, o.bin, o.cniBin)
			if err != nil {
				return err
			}
			if !plain {
				if err := mesh.Preflight(c.BinDir); err != nil {
					return err
				}
			}
			lab, err := netlab.Up(cmd.Context(), c)
			if err != nil {
				return err
			}
			defer func() {
				if err != nil { // nothing half set up is left
					err = errors.Join(err, lab.Down(context.WithoutCancel(cmd.Context())))
				}
			}()
			var m *mesh.Mesh
			if !plain {
				if m, err = mesh.Start(cmd.Context(), lab, opts); err != nil {
					return err
				}
			}
			if !empty {
				c := demo.Config{Enrol: !plain, Out: cmd.OutOrStdout(), Log: slog.Default()}.InLab(lab, m)
				if _, err := demo.Workloads(cmd.Context(), c); err != nil {
					return err
				}
			}
			return Hints(cmd.OutOrStdout(), lab)
		},
	}
	cmd.Flags().BoolVar(&empty, "empty", false, "no workloads")
	cmd.Flags().BoolVar(&plain, "no-mesh", false, "nodes and pods only")
	cmd.Flags().DurationVar(&opts.CertTTL, "cert-ttl", 0, "lifetime of workload certificates (default: the product's)")
	cmd.Flags().StringVar(&o.bin, "bin", "", "folder of the mesh's programs (default: where this program is)")
	cmd.Flags().StringVar(&o.cniBin, "cni-bin", "", "folder of the CNI plugins (default: ../cni beside --bin)")
	return cmd
}

func downCommand(o *options) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use: "down", Short: "Remove a lab and prove that nothing is left", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			names := []string{o.name}
			if all {
				var err error
				if names, err = netlab.Names(); err != nil {
					return err
				}
			}
			for _, name := range names {
				lab, err := netlab.Find(name)
				if err != nil {
					return err
				}
				if err := lab.Down(cmd.Context()); err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "lab %s is down: no namespace, link, pin, cgroup, mount, process or folder of it is left\n", name)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "every lab on this machine")
	return cmd
}
