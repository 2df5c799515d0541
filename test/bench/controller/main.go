// Command ambit-bench-controller measures the controller on synthetic clusters: how soon it is ready, what it holds, and how
// long a pod's change takes to the last of many node proxies. Without arguments of a role it is the rig, which starts the
// controller and the proxies as processes of their own.
//
//	ambit-bench-controller [--pods 2000,10000,30000,50000] [--runs 3] [--window 8s] [--out build/bench/controller.json]
//	ambit-bench-controller --kubeconfig FILE --pods 10000 --runs 1 [--filled] [--out build/bench/controller-apiserver.json]
//	ambit-bench-controller serve DIR PODS NODES KUBECONFIG | fleet DIR ADDRESS ADDRESSES POLICIES
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/ambit-mesh/ambit/controller/auth"
	"github.com/ambit-mesh/ambit/test/bench/controller/fleet"
	"github.com/ambit-mesh/ambit/test/bench/controller/synth"
)

const serverName = "ambit-controller.ambit-system.svc"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "ambit-bench-controller:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	switch {
	case len(args) == 5 && args[0] == "serve":
		n, err := numbers(args[2:4])
		if err != nil {
			return err
		}
		return serve(ctx, args[1], synth.Cluster{Pods: n[0], Nodes: n[1]}, args[4])
	case len(args) == 5 && args[0] == "fleet":
		n, err := numbers(args[3:])
		if err != nil {
			return err
		}
		return clients(ctx, args[1], fleet.Config{Address: args[2], ServerName: serverName, Addresses: n[0], Policies: n[1]})
	}
	flags := flag.NewFlagSet("ambit-bench-controller", flag.ExitOnError)
	var o options
	pods := flags.String("pods", "2000,10000,30000,50000", "sizes of the cluster")
	flags.IntVar(&o.runs, "runs", 3, "how often everything is measured at each size")
	flags.DurationVar(&o.window, "window", 8*time.Second, "how long changes are made for each number of clients")
	fleets := flags.String("clients", "1,50,500", "numbers of connected clients")
	flags.StringVar(&o.kubeconfig, "kubeconfig", os.Getenv("AMBIT_TEST_KUBECONFIG"), "fill the API server of this file with the cluster, and measure from there; it should be one to throw away, and one size at a time")
	flags.BoolVar(&o.filled, "filled", false, "the API server has the cluster already, of a run before; --runs 0 does nothing but fill it")
	flags.StringVar(&o.out, "out", "build/bench/controller.json", "where the report goes")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("no role or wrong arguments: %q; see --help", args)
	}
	var err, err2 error
	o.pods, err = numbers(strings.Split(*pods, ","))
	o.clients, err2 = numbers(strings.Split(*fleets, ","))
	if err := errors.Join(err, err2); err != nil {
		return err
	}
	if o.kubeconfig != "" && len(o.pods) != 1 {
		return errors.New("an API server holds one cluster: give one number of --pods")
	}
	return measure(ctx, o)
}

func numbers(texts []string) ([]int, error) {
	out := make([]int, len(texts))
	for i, s := range texts {
		var err error
		if out[i], err = strconv.Atoi(s); err != nil || out[i] <= 0 {
			return nil, fmt.Errorf("%q is not a number of things", s)
		}
	}
	return out, nil
}

// clients runs a fleet that the rig drives.
func clients(ctx context.Context, dir string, cfg fleet.Config) error {
	roots, err := os.ReadFile(filepath.Join(dir, "root.pem"))
	if err != nil {
		return err
	}
	key, err := auth.LoadKey(filepath.Join(dir, "key"))
	if err != nil {
		return err
	}
	f, err := fleet.New(cfg, roots, key)
	if err != nil {
		return err
	}
	return f.Serve(ctx, os.Stdin, os.Stdout)
}
