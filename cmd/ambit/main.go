// Command ambit is the user's program: it builds labs, runs the demo, checks manifests, and explains what the mesh does.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/ambit-mesh/ambit/cmd/ambit/check"
	"github.com/ambit-mesh/ambit/cmd/ambit/demo"
	"github.com/ambit-mesh/ambit/cmd/ambit/lab"
	"github.com/ambit-mesh/ambit/cmd/ambit/status"
	"github.com/ambit-mesh/ambit/cmd/ambit/validate"
	"github.com/ambit-mesh/ambit/cmd/ambit/why"
	"github.com/ambit-mesh/ambit/cmd/ambit/ztunnelconfig"
	"github.com/ambit-mesh/ambit/cmd/internal/release"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	err := root().ExecuteContext(ctx)
	stop()
	var exit lab.ExitError
	switch {
	case errors.As(err, &exit):
		os.Exit(exit.Code)
	case err != nil:
		fmt.Fprintln(os.Stderr, "ambit:", err)
		os.Exit(1)
	}
}

func root() *cobra.Command {
	cmd := &cobra.Command{
		Use: "ambit", Short: "Ambit, a sidecarless service mesh",
		SilenceUsage: true, SilenceErrors: true,
	}
	cmd.AddCommand(lab.Command(), demo.Command(), why.Command(), ztunnelconfig.Command(), status.Command(), check.Command(), validate.Command(), versionCommand())
	return cmd
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			version, revision := release.Version()
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "ambit", version, revision, runtime.Version())
			return err
		},
	}
}
