// Package ztunnelconfig is `ambit ztunnel-config`: what does a ztunnel know and hold, as tables?
//
// It prints a config dump in the spirit of istioctl's command of that name and interprets nothing: why explains. Used by
// cmd/ambit.
package ztunnelconfig

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/ambit-mesh/ambit/cmd/ambit/internal/configdump"
)

// view is one sub-command: the part of a dump it shows, raw and as a table.
type view struct {
	name, short string
	raw         func(*configdump.Dump) any
	table       func(*configdump.Dump) table
}

func views() []view {
	return []view{
		{"workloads", "Workloads that the ztunnel knows", func(d *configdump.Dump) any { return d.Workloads }, workloads},
		{"services", "Services and how many of their endpoints are healthy", func(d *configdump.Dump) any { return d.Services }, services},
		{"policies", "Authorization policies", func(d *configdump.Dump) any { return d.Policies }, policies},
		{"certificates", "Certificates of the identities on the node", func(d *configdump.Dump) any { return d.Certificates }, certificates},
		{"connections", "Live connections of the pods on the node", func(d *configdump.Dump) any { return d.WorkloadState }, connections},
	}
}

// Command is the sub-command.
func Command() *cobra.Command {
	var from, output string
	cmd := &cobra.Command{
		Use: "ztunnel-config", Aliases: []string{"zc"}, Short: "Show what a ztunnel knows and holds",
		Example: "  ambit ztunnel-config workloads\n  ambit zc connections --dump dump.json -o yaml",
	}
	cmd.PersistentFlags().StringVar(&from, "dump", configdump.Default, "a ztunnel's admin URL, a file with its config dump, or - for standard input")
	cmd.PersistentFlags().StringVarP(&output, "output", "o", "text", "text, json or yaml")
	add := func(name, short string, shown []view) {
		cmd.AddCommand(&cobra.Command{
			Use: name, Short: short, Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				d, err := configdump.Load(cmd.Context(), from, cmd.InOrStdin())
				if err != nil {
					return err
				}
				return show(cmd.OutOrStdout(), d, shown, output)
			},
		})
	}
	for _, v := range views() {
		add(v.name, v.short, []view{v})
	}
	add("all", "All of it", views())
	return cmd
}

// show prints views: each as a table under its name, or as one value.
func show(w io.Writer, d *configdump.Dump, shown []view, format string) error {
	if format == "text" {
		for i, v := range shown {
			if len(shown) > 1 {
				if i > 0 {
					fmt.Fprintln(w)
				}
				fmt.Fprintln(w, v.name)
			}
			if err := v.table(d).write(w); err != nil {
				return err
			}
		}
		return nil
	}
	var value any
	if len(shown) == 1 {
		value = shown[0].raw(d)
	} else {
		all := map[string]any{}
		for _, v := range shown {
			all[v.name] = v.raw(d)
		}
		value = all
	}
	switch format {
	case "json":
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(value)
	case "yaml":
		text, err := yaml.Marshal(value)
		if err != nil {
			return err
		}
		_, err = w.Write(text)
		return err
	}
	return fmt.Errorf("output %q: want text, json or yaml", format)
}
