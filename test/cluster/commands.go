package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

// folder is the flag for where everything of one cluster lies. It is made absolute, as the mark of its processes.
type folder string

// alone makes a command wait for others that start or end what is in the same folder.
func (f *folder) alone(do func(*cobra.Command, []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		cache, err := cacheDir() // not in the folder, which down removes
		if err != nil {
			return err
		}
		unlock, err := lock(filepath.Join(cache, strings.ReplaceAll(string(*f), "/", "-")[1:]+".lock"))
		if err != nil {
			return err
		}
		defer unlock()
		return do(cmd, args)
	}
}

func (f *folder) flag(cmd *cobra.Command, fallback string) {
	cmd.Flags().StringVar((*string)(f), "dir", fallback, "its folder; down removes all of it")
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		dir, err := absolute(string(*f))
		if err != nil {
			return err
		}
		*f = folder(dir)
		return run(cmd, args)
	}
}

func apiserverCommands(tree *Tree) []*cobra.Command {
	var dir folder
	all := []*cobra.Command{
		{
			Use: "apiserver-up", Short: "start an API server with the mesh's resources, unless it runs, and print its kubeconfig", Args: cobra.NoArgs,
			RunE: dir.alone(func(cmd *cobra.Command, _ []string) error {
				c, err := tree.apiserverUp(cmd.Context(), string(dir))
				if err == nil {
					fmt.Println(c.Kubeconfig())
				}
				return err
			}),
		},
		{
			Use: "apiserver-down", Short: "stop it and remove its folder", Args: cobra.NoArgs,
			RunE: dir.alone(func(cmd *cobra.Command, _ []string) error { return remove(cmd.Context(), string(dir)) }),
		},
		{
			Use: "apiserver-test -- COMMAND...", Short: "run a command with AMBIT_TEST_KUBECONFIG of a fresh API server, then stop that", Args: cobra.MinimumNArgs(1),
			RunE: dir.alone(func(cmd *cobra.Command, args []string) error {
				return tree.apiserverTest(cmd.Context(), string(dir), args)
			}),
		},
	}
	for _, c := range all {
		dir.flag(c, "/tmp/ambit-apiserver")
	}
	return all
}

func clusterCommands(tree *Tree) []*cobra.Command {
	var (
		dir           folder
		number, nodes int
		dual, wipe    bool
	)
	// with gives a command the cluster that runs in the folder.
	with := func(do func(*cobra.Command, *Cluster, []string) error) func(*cobra.Command, []string) error {
		return func(cmd *cobra.Command, args []string) error {
			c, err := clusterIn(string(dir))
			if err != nil {
				return fmt.Errorf("no cluster is up in %s: %w", dir, err)
			}
			return do(cmd, c, args)
		}
	}
	all := []*cobra.Command{
		{
			Use: "up", Short: "start a cluster, unless it runs, and print its kubeconfig", Args: cobra.NoArgs,
			RunE: dir.alone(func(cmd *cobra.Command, _ []string) error {
				p, err := newPlan(number, nodes, dual)
				if err != nil {
					return err
				}
				c, err := tree.clusterUp(cmd.Context(), p, string(dir))
				if err == nil {
					fmt.Println(c.Kubeconfig())
				}
				return err
			}),
		},
		{
			Use: "down", Short: "end it and leave nothing behind", Args: cobra.NoArgs,
			RunE: dir.alone(func(cmd *cobra.Command, _ []string) error {
				p, err := newPlan(number, nodes, dual)
				if err != nil {
					return err
				}
				return p.down(cmd.Context(), string(dir))
			}),
		},
		{
			Use: "status", Short: "tell what runs", Args: cobra.NoArgs,
			RunE: with(func(cmd *cobra.Command, c *Cluster, _ []string) error { return c.status(cmd.Context()) }),
		},
		{
			Use: "smoke", Short: "ask a Service of two pods on two nodes by its DNS name, and by its outside address", Args: cobra.NoArgs,
			RunE: with(func(cmd *cobra.Command, c *Cluster, _ []string) error { return c.smoke(cmd.Context()) }),
		},
		{
			Use: "load TARBALL...", Short: "give images to all nodes", Args: cobra.MinimumNArgs(1),
			RunE: with(func(cmd *cobra.Command, c *Cluster, files []string) error { return c.load(cmd.Context(), files) }),
		},
		{
			Use: "exec NODE -- COMMAND...", Short: "run a command in a node's namespaces", Args: cobra.MinimumNArgs(2),
			RunE: with(func(cmd *cobra.Command, c *Cluster, args []string) error {
				in, err := c.inNode(cmd.Context(), args[0], args[1:]...)
				if err != nil {
					return err
				}
				in.Stdin, in.Stdout, in.Stderr = os.Stdin, os.Stdout, os.Stderr
				return in.Run()
			}),
		},
		{
			Use: "reboot NODE", Short: "end everything on a node at once, and start it with its disk as it was", Args: cobra.ExactArgs(1),
			RunE: with(func(cmd *cobra.Command, c *Cluster, args []string) error {
				return c.reboot(cmd.Context(), args[0], wipe)
			}),
		},
		{
			Use: "loadbalancer", Hidden: true, Args: cobra.NoArgs, // what up leaves running
			RunE: func(cmd *cobra.Command, _ []string) error {
				p, err := newPlan(number, nodes, dual)
				if err != nil {
					return err
				}
				return p.at(string(dir), "").balance(cmd.Context())
			},
		},
	}
	for _, c := range all {
		if c.Name() == "reboot" {
			c.Flags().BoolVar(&wipe, "wipe", false, "with an empty disk: a new machine in the old one's place")
		}
		dir.flag(c, "/var/tmp/ambit-cluster")
		c.Flags().IntVar(&number, "number", 0, "which cluster, of those that run side by side (give each a --dir)")
		c.Flags().IntVar(&nodes, "nodes", 2, "how many nodes")
		c.Flags().BoolVar(&dual, "dual", false, "IPv6 beside IPv4")
	}
	return all
}

// nodeCommands are what a node is made of; nobody calls them by hand.
func nodeCommands() []*cobra.Command {
	parse := func(do func(*cobra.Command, NodeSpec) error) func(*cobra.Command, []string) error {
		return func(cmd *cobra.Command, args []string) error {
			var s NodeSpec
			if err := json.Unmarshal([]byte(args[0]), &s); err != nil {
				return err
			}
			return do(cmd, s)
		}
	}
	return []*cobra.Command{
		{
			Use: "node-keeper SPEC", Hidden: true, Args: cobra.ExactArgs(1),
			RunE: parse(func(cmd *cobra.Command, s NodeSpec) error { return s.keep(cmd.Context()) }),
		},
		{
			Use: "node-init SPEC", Hidden: true, Args: cobra.ExactArgs(1),
			RunE: parse(func(cmd *cobra.Command, s NodeSpec) error { return s.run(cmd.Context()) }),
		},
	}
}
