package lab

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/ambit-mesh/ambit/test/netlab"
	"github.com/ambit-mesh/ambit/test/netlab/mesh"
)

// report is the status of a lab, also as JSON.
type report struct {
	Lab       string          `json:"lab"`
	Manifests string          `json:"manifests"`
	Nodes     []netlab.Node   `json:"nodes"`
	Pods      []podReport     `json:"pods"`
	Processes []processReport `json:"processes"`
}

type podReport struct {
	netlab.Pod
	Enrolled bool `json:"enrolled"`
	Ready    bool `json:"ready"`
}

type processReport struct {
	netlab.Process
	Alive bool `json:"alive"`
	// Ready is what the ztunnel's readiness endpoint says; empty for other processes.
	Ready string `json:"ready,omitempty"`
}

func statusCommand(o *options) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use: "status", Short: "Show nodes, pods, who is in the mesh, and processes", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			lab, err := netlab.Open(o.name)
			if err != nil {
				return err
			}
			r, err := gather(cmd, lab)
			if err != nil {
				return err
			}
			if format == "json" {
				e := json.NewEncoder(cmd.OutOrStdout())
				e.SetIndent("", "  ")
				return e.Encode(r)
			}
			return r.print(cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVarP(&format, "output", "o", "text", "text or json")
	return cmd
}

func gather(cmd *cobra.Command, lab *netlab.Lab) (r report, err error) {
	r.Lab, r.Manifests = lab.Name(), lab.Manifests()
	if r.Nodes, err = lab.Nodes(); err != nil {
		return r, err
	}
	pods, err := lab.Pods()
	if err != nil {
		return r, err
	}
	for _, p := range pods {
		row := podReport{Pod: p}
		if row.Enrolled, err = mesh.Enrolled(lab, p); err != nil {
			return r, err
		}
		if row.Ready, err = lab.Ready(p.Ref()); err != nil {
			return r, err
		}
		r.Pods = append(r.Pods, row)
	}
	processes, err := lab.Processes()
	if err != nil {
		return r, err
	}
	m, meshErr := mesh.Open(lab)
	for _, p := range processes {
		row := processReport{Process: p, Alive: p.Alive()}
		if node, ok := strings.CutPrefix(p.Name, "ztunnel-"); ok && row.Alive && meshErr == nil {
			row.Ready = "ready"
			if err := m.Ready(cmd.Context(), node); err != nil {
				row.Ready = "not ready"
			}
		}
		r.Processes = append(r.Processes, row)
	}
	return r, nil
}

func (r report) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintf(w, "lab %s, manifests in %s\n\nNODE\tADDRESSES\tPODS\n", r.Lab, r.Manifests)
	for _, n := range r.Nodes {
		fmt.Fprintf(w, "%s\t%s\t%s\n", n.Name, words(n.IPs), words(n.PodNets))
	}
	fmt.Fprintf(w, "\nPOD\tNODE\tMESH\tREADY\tADDRESSES\n")
	for _, p := range r.Pods {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", p.Ref(), p.Node, yes(p.Enrolled, "in", "-"), yes(p.Ready, "yes", "no"), words(p.IPs))
	}
	fmt.Fprintf(w, "\nPROCESS\tSTATE\tPID\tWHERE\n")
	for _, p := range r.Processes {
		where := "pod " + p.Pod
		if p.Pod == "" {
			where = "node " + p.Node
		}
		state := yes(p.Alive, "runs", "ended")
		if p.Ready != "" {
			state += ", " + p.Ready
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\n", p.Name, state, p.PID, where)
	}
	return w.Flush()
}

func yes(b bool, then, otherwise string) string {
	if b {
		return then
	}
	return otherwise
}

func words[T any](all []T) string {
	return strings.Trim(fmt.Sprint(all), "[]")
}
