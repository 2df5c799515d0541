package lab

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/ambit-mesh/ambit/test/netlab"
)

// ExitError carries the exit status of a program run by exec.
type ExitError struct{ Code int }

func (e ExitError) Error() string { return fmt.Sprintf("the program ended with status %d", e.Code) }

func execCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use: "exec POD -- PROGRAM [ARGS]", Short: "Run a program in a pod, or in a node by its name",
		Example: "  ambit lab exec client -- curl http://web/\n  ambit lab exec demo/store -- sh\n  ambit lab exec n1 -- ip route",
		Args:    cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			lab, err := netlab.Open(o.name)
			if err != nil {
				return err
			}
			spec := netlab.Spec{Argv: args[1:], SameSession: true}
			if term := os.Getenv("TERM"); term != "" {
				spec.Env = append(spec.Env, "TERM="+term)
			}
			if _, err := lab.Node(args[0]); err == nil || args[0] == netlab.Wire {
				spec.Node, spec.MachineMounts = args[0], true
			} else if pod, err := findPod(lab, args[0]); err != nil {
				return err
			} else {
				spec.Pod = pod.Ref()
			}
			code, err := lab.ExecIO(cmd.Context(), spec, os.Stdin, cmd.OutOrStdout(), cmd.ErrOrStderr())
			if err == nil && code != 0 {
				err = ExitError{code}
			}
			return err
		},
	}
}

func logsCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use: "logs [PROCESS]", Short: "Print a process's log; without a name, list the processes", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			lab, err := netlab.Open(o.name)
			if err != nil {
				return err
			}
			if len(args) == 1 {
				if _, err := lab.Process(args[0]); err != nil {
					return err
				}
				return lab.CopyLog(cmd.OutOrStdout(), args[0])
			}
			all, err := lab.Processes()
			for _, p := range all {
				fmt.Fprintln(cmd.OutOrStdout(), p.Name)
			}
			return err
		},
	}
}

// Hints tells how to try things in a lab.
func Hints(out io.Writer, lab *netlab.Lab) error {
	name := ""
	if lab.Name() != DefaultName {
		name = " --name " + lab.Name()
	}
	_, err := fmt.Fprintf(out, `
Lab %[1]s is up. Try:
  ambit lab status%[2]s                           nodes, pods, who is in the mesh, processes
  ambit lab exec%[2]s client -- curl http://web/  a request through the mesh, by Service name
  ambit lab exec%[2]s client -- sh                a shell in a pod
  ambit lab exec%[2]s wire -- tcpdump -ni n2      what passes between the nodes
  ambit lab logs%[2]s ztunnel-n2                  the access log of a node's ztunnel
  ambit lab exec%[2]s ztunnel-n2 -- ambit why demo/client demo/store:7000
  ambit lab exec%[2]s ztunnel-n2 -- ambit ztunnel-config workloads
  ambit lab exec%[2]s controller -- ambit status  which ztunnels are connected, and whether each is up to date
  cp policy.yaml %[3]s/    manifests in this folder are the cluster's objects
  ambit lab down%[2]s                             remove all of it
`, lab.Name(), name, lab.Manifests())
	return err
}
