// Package check is `ambit check`: can this cluster run the mesh, and if it does, what is in its way?
//
// It reads the API server with its user's kubeconfig (cluster.go), judges what it read (judge.go, pure) and changes nothing.
// Used by cmd/ambit.
package check

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

// Command is the sub-command.
func Command() *cobra.Command {
	var kubeconfig, context, namespace string
	cmd := &cobra.Command{
		Use: "check", Aliases: []string{"precheck"},
		Short: "Say whether a cluster can run the mesh, and what is in its way",
		Long: `Reads a cluster and changes nothing. Before installing it finds what would keep the mesh from working: kernels of nodes,
other meshes, other programs on the hooks that the mesh uses, missing resource definitions, namespaces that ask for two
meshes. After installing it says what the mesh's own pods and nodes complain about. It ends with 1 if something must be done.

It needs to list nodes, namespaces, daemonsets, pods and events; what it may not read it says.`,
		Example: "  ambit check\n  ambit check --kubeconfig FILE --context NAME",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := connect(kubeconfig, context)
			if err != nil {
				return err
			}
			found, err := read(cmd.Context(), c, namespace)
			if err != nil {
				return err
			}
			return print(cmd.OutOrStdout(), found, judge(found))
		},
	}
	f := cmd.Flags()
	f.StringVar(&kubeconfig, "kubeconfig", "", "file that says how to reach the API server; empty: $KUBECONFIG, or ~/.kube/config")
	f.StringVar(&context, "context", "", "context of that file; empty: its current one")
	f.StringVarP(&namespace, "namespace", "n", "ambit-system", "namespace of the mesh, there or to be")
	return cmd
}

// print shows what must be done first, and is an error if there is any.
func print(out io.Writer, found facts, list []finding) error {
	problems := 0
	for _, must := range []bool{true, false} {
		for _, f := range list {
			if f.must != must {
				continue
			}
			word := "note"
			if must {
				word = "PROBLEM"
				problems++
			}
			if _, err := fmt.Fprintf(out, "%-8s %s\n         %s\n", word, f.what, f.do); err != nil {
				return err
			}
		}
	}
	if problems > 0 {
		return fmt.Errorf("%d problems", problems)
	}
	_, err := fmt.Fprintf(out, "nothing is in the way: Kubernetes %s, %d nodes\n", found.version, len(found.nodes))
	return err
}
