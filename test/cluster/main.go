// Command cluster builds and runs a real Kubernetes for tests of the mesh, on one machine, without Docker or a registry:
// an API server alone, or whole clusters of nodes with kubelets. It knows nothing of the mesh but the resources that the
// mesh reads. The Makefile calls it at the top of the tree, and people do. What it starts outlives it; what runs in a folder
// is found again by the mark that its processes carry, so down works after any crash.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := root().ExecuteContext(ctx)
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.ExitCode() > 0:
		os.Exit(exit.ExitCode())
	case err != nil:
		os.Exit(1)
	}
}

func root() *cobra.Command {
	var tree Tree
	cmd := &cobra.Command{Use: "cluster", Short: "a real Kubernetes for tests, on one machine", SilenceUsage: true}
	cmd.PersistentFlags().StringVar((*string)(&tree), "tree", ".", "top of the product's source tree")
	cmd.AddCommand(&cobra.Command{
		Use: "build", Short: "build the Kubernetes program if the cache lacks it, and print its path", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, err := tree.kubernetes(cmd.Context())
			fmt.Println(path)
			return err
		},
	})
	cmd.AddCommand(&cobra.Command{
		Use: "image PROGRAM NAME TARBALL", Short: "make an image of one static program, for load", Args: cobra.ExactArgs(3),
		RunE: func(_ *cobra.Command, args []string) error { return writeImage(args[2], args[1], args[0]) },
	})
	cmd.AddCommand(apiserverCommands(&tree)...)
	cmd.AddCommand(clusterCommands(&tree)...)
	cmd.AddCommand(nodeCommands()...)
	return cmd
}
