// Command ztunnel is the node proxy of the mesh: mutual TLS, identity and L4 authorization for the pods of one node. It runs
// without privileges beside the node agent, which gives it its sockets.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/ambit-mesh/ambit/ztunnel"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	if err := command(os.Getenv).ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "ztunnel:", err)
		os.Exit(1)
	}
}

// command is the program with the environment that gives its flags their defaults.
func command(getenv func(string) string) *cobra.Command {
	o := defaults(getenv)
	cmd := &cobra.Command{
		Use:   "ztunnel",
		Short: "Ambit's node proxy",
		Long: `Ambit's node proxy: mutual TLS, identity and L4 authorization for the pods of one node.

It needs no privilege and refuses to run with any: the node agent makes its sockets and passes them over.
Settings come from flags, then from the environment variables that Istio's ztunnel reads (named in brackets), then
from the defaults shown. SIGTERM drains: nothing more is accepted, and connections have --drain-timeout to finish.
A second signal ends it at once.`,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := o.config(os.Environ(), cmd.OutOrStdout())
			if err != nil {
				return err
			}
			return ztunnel.Run(cmd.Context(), cfg)
		},
	}
	o.register(cmd.Flags())
	return cmd
}
