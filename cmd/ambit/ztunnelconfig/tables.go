package ztunnelconfig

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/ambit-mesh/ambit/cmd/ambit/internal/configdump"
	"github.com/ambit-mesh/ambit/ztunnel/admin"
	"github.com/ambit-mesh/ambit/ztunnel/state/dump"
)

// table is a header and rows of cells.
type table [][]string

func (t table) write(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range t {
		for i, cell := range row {
			row[i] = printable(cell)
		}
		fmt.Fprintln(tw, strings.Join(row, "\t"))
	}
	return tw.Flush()
}

// printable keeps what came over the network from steering a terminal; an empty cell is a dash.
func printable(s string) string {
	if s == "" {
		return "-"
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}

func workloads(d *configdump.Dump) table {
	t := table{{"NAMESPACE", "WORKLOAD", "ADDRESS", "NODE", "WAYPOINT", "PROTOCOL", "STATUS", "POLICIES"}}
	for _, w := range d.Workloads {
		var ips []string
		for _, ip := range w.WorkloadIPs {
			ips = append(ips, ip.String())
		}
		t = append(t, []string{
			w.Namespace, w.Name, strings.Join(ips, ","), w.Node, waypoint(w.Waypoint), w.Protocol, w.Status,
			strings.Join(w.Policies, ","),
		})
	}
	return t
}

func services(d *configdump.Dump) table {
	t := table{{"NAMESPACE", "SERVICE", "HOSTNAME", "VIP", "WAYPOINT", "ENDPOINTS"}}
	for _, s := range d.Services {
		healthy := 0
		for _, e := range s.Endpoints {
			if e.Status == "Healthy" {
				healthy++
			}
		}
		t = append(t, []string{
			s.Namespace, s.Name, s.Hostname, strings.Join(s.VIPs, ","), waypoint(s.Waypoint),
			fmt.Sprintf("%d/%d", healthy, len(s.Endpoints)),
		})
	}
	return t
}

func policies(d *configdump.Dump) table {
	t := table{{"NAMESPACE", "POLICY", "ACTION", "SCOPE", "RULES", "STATE"}}
	for _, p := range d.Policies {
		state := "enforced"
		switch {
		case p.Broken != "":
			state = "broken: " + p.Broken
		case p.DryRun:
			state = "dry run"
		}
		t = append(t, []string{p.Namespace, p.Name, p.Action, p.Scope, fmt.Sprint(len(p.Rules)), state})
	}
	return t
}

func certificates(d *configdump.Dump) table {
	t := table{{"IDENTITY", "STATE", "TYPE", "SERIAL", "NOT BEFORE", "NOT AFTER"}}
	for _, c := range d.Certificates {
		if len(c.CertChain) == 0 {
			t = append(t, []string{c.Identity, c.State, "", "", "", ""})
		}
		for i, x := range c.CertChain {
			kind := "leaf"
			if i > 0 {
				kind = "intermediate"
			}
			t = append(t, []string{c.Identity, c.State, kind, x.SerialNumber, x.ValidFrom, x.ExpirationTime})
		}
		for _, x := range c.RootCerts {
			t = append(t, []string{c.Identity, c.State, "root", x.SerialNumber, x.ValidFrom, x.ExpirationTime})
		}
	}
	return t
}

func connections(d *configdump.Dump) table {
	t := table{{"NAMESPACE", "POD", "DIRECTION", "SOURCE", "MEANT FOR", "DESTINATION", "PROTOCOL", "IDENTITY", "POLICY", "REASON"}}
	for _, uid := range slices.Sorted(maps.Keys(d.WorkloadState)) {
		pod := d.WorkloadState[uid]
		row := func(direction string, c admin.Connection) {
			meant := ""
			if c.OriginalDst != nil {
				meant = *c.OriginalDst
			}
			t = append(t, []string{
				pod.Info.Namespace, pod.Info.Name, direction, c.Src, meant, c.ActualDst, c.Protocol, c.Identity,
				c.Policy, c.Reason,
			})
		}
		for _, c := range pod.Connections.Inbound {
			row("inbound", c)
		}
		for _, c := range pod.Connections.Outbound {
			row("outbound", c)
		}
	}
	return t
}

func waypoint(g *dump.Gateway) string {
	if g == nil {
		return ""
	}
	return g.Destination
}
