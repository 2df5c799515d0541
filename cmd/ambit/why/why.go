// Package why is `ambit why`: where would this connection go, would it be allowed, and which rule says so?
//
// It replays a ztunnel's config dump through route.Resolve and policy.Authorize, the code that decides in the ztunnel, and
// has no opinion of its own. It contacts only the admin port it is pointed at. Used by cmd/ambit.
package why

import (
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/ambit-mesh/ambit/cmd/ambit/internal/configdump"
)

// Command is the sub-command.
func Command() *cobra.Command {
	var q Question
	var from, clientIP, output string
	cmd := &cobra.Command{
		Use:   "why SOURCE DESTINATION",
		Short: "Say where a connection goes, whether it is allowed, and why",
		Long: `Replays a ztunnel's config dump through the code that decides in the ztunnel.

SOURCE is namespace/name of a pod, its uid, or "none" for a client outside the mesh.
DESTINATION is ip:port, host:port of a service, or namespace/name:port of a pod.`,
		Example: `  ambit why shop/web-1 cart.shop:80
  ambit why --dump dump.json none shop/cart-1:8080`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			q.From, q.To = args[0], args[1]
			if clientIP != "" {
				ip, err := netip.ParseAddr(clientIP)
				if err != nil {
					return fmt.Errorf("client ip: %w", err)
				}
				q.ClientIP = ip
			}
			if q.Choice < 0 {
				return fmt.Errorf("choice %d: want 0 or more", q.Choice)
			}
			d, err := configdump.Load(cmd.Context(), from, cmd.InOrStdin())
			if err != nil {
				return err
			}
			snap, err := d.Restore()
			if err != nil {
				return fmt.Errorf("config dump: %w", err)
			}
			var version uint64
			if d.Snapshot != nil {
				version = d.Snapshot.Version
			}
			answer, err := Explain(snap, version, q)
			if err != nil {
				return err
			}
			return print(cmd.OutOrStdout(), answer, output)
		},
	}
	f := cmd.Flags()
	f.StringVar(&from, "dump", configdump.Default, "a ztunnel's admin URL, a file with its config dump, or - for standard input")
	f.StringVar(&clientIP, "client-ip", "", "address of a client outside the mesh")
	f.IntVar(&q.Choice, "choice", 0, "which of several endpoints to look at")
	f.StringVarP(&output, "output", "o", "text", "text or json")
	return cmd
}

func print(w io.Writer, a *Answer, format string) error {
	switch format {
	case "json":
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(a)
	case "text":
	default:
		return fmt.Errorf("output %q: want text or json", format)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(t, "%s\t%s\n", name, value)
		}
	}
	line("source", a.Source)
	line("destination", a.Destination)
	line("service", a.Service)
	if a.Plan != "" {
		line("plan", a.Plan+" ("+a.Route+")")
	}
	line("dial", a.Dial)
	line("authority", a.Authority)
	line("peer", a.Peer)
	if a.Verdict != "" {
		if a.Identity == "" {
			line("identity", "none")
		}
		line("identity", a.Identity)
		line("decision", a.Verdict+" ("+a.Reason+")")
	}
	line("policy", a.Policy)
	for _, f := range a.DryRun {
		line("dry run", f)
	}
	for _, n := range a.Notes {
		line("note", n)
	}
	line("snapshot", fmt.Sprint(a.Snapshot))
	return t.Flush()
}
