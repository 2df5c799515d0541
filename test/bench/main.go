// Command ambit-bench measures Ambit against no mesh at all and against a floor (package floor), in the same run on the same
// machine, and reports medians, spreads and ratios. Without arguments of a role it is the rig; in pods it plays the roles.
//
//	ambit-bench [--runs 5] [--quick] [--only REGEXP] [--out build/bench]
//	ambit-bench server | client JSON | idle HOST N | floor-out PEER | floor-in
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"strconv"
	"syscall"

	"github.com/ambit-mesh/ambit/test/bench/load"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "ambit-bench:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	role := ""
	if len(args) > 0 {
		role = args[0]
	}
	switch {
	case role == "server":
		return load.Serve(ctx)
	case role == "client" && len(args) == 2:
		return client(args[1])
	case role == "idle" && len(args) == 3:
		n, err := strconv.Atoi(args[2])
		if err != nil {
			return err
		}
		return load.Idle(args[1], n, func() { fmt.Println("ready") }, os.Stdin)
	case role == "floor-out" && len(args) == 2:
		return floorOut(ctx, args[1])
	case role == "floor-in" && len(args) == 1:
		return floorIn(ctx)
	}

	flags := flag.NewFlagSet("ambit-bench", flag.ExitOnError)
	var o options
	flags.IntVar(&o.runs, "runs", 5, "how often each figure is measured on each path, interleaved")
	flags.BoolVar(&o.quick, "quick", false, "short measurements: shows that the rig works, not what Ambit costs")
	flags.StringVar(&o.out, "out", "build/bench", "folder for the JSON reports")
	only := flags.String("only", "", "measure only figures whose \"where/name\" matches this regular expression")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("no role or wrong arguments: %q; see --help", args)
	}
	var err error
	if o.only, err = regexp.Compile(*only); err != nil {
		return err
	}
	return measure(ctx, o)
}

// client runs one job and prints its result as JSON.
func client(text string) error {
	var job load.Job
	if err := json.Unmarshal([]byte(text), &job); err != nil {
		return fmt.Errorf("job: %w", err)
	}
	result, err := job.Run()
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(result)
}
