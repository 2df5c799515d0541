// Package status is `ambit status`: which node proxies does this controller know, and is each up to date?
//
// It prints the controller's /debug/syncz, and interprets it in one word a type. Used by cmd/ambit.
package status

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/ambit-mesh/ambit/cmd/ambit/internal/configdump"
	"github.com/ambit-mesh/ambit/controller/xds"
)

// defaultAddress is the controller's debug port, which listens on its pod's loopback only.
const defaultAddress = "http://127.0.0.1:15016"

// Command is the sub-command.
func Command() *cobra.Command {
	var address, output string
	cmd := &cobra.Command{
		Use: "status [CLIENT]", Aliases: []string{"proxy-status", "ps"},
		Short: "Show the node proxies connected to the controller, and whether each is up to date",
		Long: `Shows the clients of one controller replica. For each type of configuration:

  SYNCED          the client has accepted the newest that was sent
  STALE           something was sent and not yet accepted, for that long
  NOT SENT        the client asks for it, and there was nothing to send yet
  NOT SUBSCRIBED  the client does not ask for it
  REJECTED        the client could not use some of it and keeps what it had: its words are below the table

The controller shows this on its own loopback address only. From elsewhere:
  kubectl -n ambit-system port-forward deploy/ambit-controller 15016`,
		Example: "  ambit status\n  ambit status ztunnel-7xk2p -o json\n  ambit lab exec controller -- ambit status",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if output != "text" && output != "json" {
				return fmt.Errorf("output %q: want text or json", output)
			}
			text, err := configdump.Read(cmd.Context(), address, "/debug/syncz", cmd.InOrStdin())
			if err != nil {
				return fmt.Errorf("controller status: %w", err)
			}
			var clients []xds.Client
			if err := json.Unmarshal(text, &clients); err != nil {
				return fmt.Errorf("controller status of %s: %w", address, err)
			}
			if len(args) == 1 {
				clients = slices.DeleteFunc(clients, func(c xds.Client) bool { return !strings.Contains(c.Proxy, args[0]) && c.Node != args[0] })
				if len(clients) == 0 {
					return fmt.Errorf("no client %q is connected to this replica", args[0])
				}
			}
			if output == "json" {
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetIndent("", "  ")
				return enc.Encode(clients)
			}
			return table(cmd.OutOrStdout(), clients, time.Now())
		},
	}
	cmd.Flags().StringVar(&address, "address", defaultAddress, "a controller's debug URL, a file with its /debug/syncz, or - for standard input")
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	return cmd
}

// columns are the types that node proxies ask for. Others are shown below the table if something is wrong with them.
var columns = []struct{ title, url string }{
	{"WORKLOADS", "type.googleapis.com/istio.workload.Address"},
	{"POLICIES", "type.googleapis.com/istio.security.Authorization"},
}

func table(out io.Writer, clients []xds.Client, now time.Time) error {
	if len(clients) == 0 {
		_, err := fmt.Fprintln(out, "no client is connected to this replica")
		return err
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprint(w, "CLIENT\tNODE\tCLUSTER\tVERSION\tCONNECTED")
	for _, c := range columns {
		fmt.Fprint(w, "\t", c.title)
	}
	fmt.Fprintln(w)
	for _, c := range clients {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s", name(c), dash(c.Node), dash(c.ClusterID), dash(cmp.Or(c.ProxyVersion, c.IstioVersion)), age(now.Sub(c.Connected)))
		for _, col := range columns {
			sync, ok := c.Resources[col.url]
			fmt.Fprint(w, "\t", state(sync, ok, now))
		}
		fmt.Fprintln(w)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return rejections(out, clients)
}

// state is one word, and since when.
func state(s xds.Sync, subscribed bool, now time.Time) string {
	word := "SYNCED"
	switch {
	case !subscribed:
		return "NOT SUBSCRIBED"
	case s.LastError != "" || len(s.Rejected) > 0:
		word = "REJECTED"
	case s.Sent == "":
		return "NOT SENT"
	case s.InFlight || s.Sent != s.Acked:
		word = "STALE"
	}
	if s.SentTime.IsZero() {
		return word
	}
	return fmt.Sprintf("%s (%s)", word, age(now.Sub(s.SentTime)))
}

// rejections are the clients' own words.
func rejections(out io.Writer, clients []xds.Client) error {
	for _, c := range clients {
		for _, url := range slices.Sorted(maps.Keys(c.Resources)) {
			s := c.Resources[url]
			kind := url[strings.LastIndex(url, ".")+1:]
			var lines []string
			for _, resource := range slices.Sorted(maps.Keys(s.Rejected)) {
				lines = append(lines, fmt.Sprintf("%s %s: %s", kind, resource, s.Rejected[resource]))
			}
			if len(lines) == 0 && s.LastError != "" {
				lines = append(lines, fmt.Sprintf("%s: %s", kind, s.LastError))
			}
			for _, line := range lines {
				if _, err := fmt.Fprintf(out, "\n%s rejected %s", name(c), oneLine(line)); err != nil {
					return err
				}
			}
			if len(lines) > 0 {
				if _, err := fmt.Fprintf(out, " (%d in all)\n", s.Rejects); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// name is pod.namespace, out of type~ip~pod.namespace~domain.
func name(c xds.Client) string {
	if part := strings.Split(c.Proxy, "~"); len(part) == 4 {
		return oneLine(part[2])
	}
	return oneLine(c.Proxy)
}

func dash(s string) string { return cmp.Or(oneLine(s), "-") }

// oneLine keeps words of others from moving the cursor.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}

func age(d time.Duration) string {
	switch {
	case d < time.Second:
		return "0s"
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	default:
		return fmt.Sprintf("%dd", int(d.Hours()/24))
	}
}
