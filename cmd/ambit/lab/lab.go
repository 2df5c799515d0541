// Package lab is `ambit lab`: it builds, shows and removes a small cluster of network namespaces with the mesh in it, and
// runs programs in its pods. What it does is in test/netlab; here are words for people only.
package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ambit-mesh/ambit/test/netlab"
)

// DefaultName is the lab that commands mean when none is named.
const DefaultName = "demo"

// options are the flags that several commands share.
type options struct {
	name        string
	bin, cniBin string
}

// Command is the `lab` group.
func Command() *cobra.Command {
	o := &options{}
	cmd := &cobra.Command{
		Use:   "lab",
		Short: "Two nodes with pods, and the mesh, on this machine",
		Long: "A lab is two nodes with pods, made of network namespaces on this machine, with the real agent, CNI plugin, ztunnel and\n" +
			"controller. It needs root. Nothing of the machine itself is changed, and `ambit lab down` removes all of it.",
	}
	cmd.PersistentFlags().StringVar(&o.name, "name", DefaultName, "the lab's name")
	cmd.AddCommand(upCommand(o), downCommand(o), statusCommand(o), execCommand(o), logsCommand(o))
	return cmd
}

// Config is a lab's configuration with the programs that stand beside this one.
func Config(name, bin, cni string) (netlab.Config, error) {
	if bin == "" {
		self, err := os.Executable()
		if err != nil {
			return netlab.Config{}, err
		}
		bin = filepath.Dir(self)
	}
	if cni == "" {
		cni = filepath.Join(filepath.Dir(bin), "cni")
	}
	return netlab.Config{
		Name: name, BinDir: bin, CNIDir: cni,
		Records: []string{"outside.example=192.0.2.1", "outside.example=2001:db8::1"},
	}, nil
}

// findPod finds a pod by namespace/name, or by its name alone where only one pod has it.
func findPod(lab *netlab.Lab, name string) (netlab.Pod, error) {
	pods, err := lab.Pods()
	if err != nil {
		return netlab.Pod{}, err
	}
	var found []netlab.Pod
	var refs []string
	for _, p := range pods {
		if p.Ref() == name || p.Name == name {
			found = append(found, p)
		}
		refs = append(refs, p.Ref())
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return netlab.Pod{}, fmt.Errorf("no pod %q in lab %s; there are: %s", name, lab.Name(), strings.Join(refs, " "))
	default:
		return netlab.Pod{}, fmt.Errorf("several pods are called %q: say namespace/name", name)
	}
}
