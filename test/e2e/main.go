// Command e2e answers: does the mesh keep its promises on a real Kubernetes? It takes a cluster of test/cluster that is up and
// has no mesh, installs the product as users do (images, rendered chart, kubectl), and checks one promise a file, each by what
// programs got, what stands on the wire, what a node holds, and the mesh's own logs. Checks run in order and build on each
// other. `make e2e` starts the cluster, makes the images, calls this, and ends the cluster.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
}

func command(ctx context.Context) error {
	var w World
	f := pflag.NewFlagSet("e2e", pflag.ExitOnError)
	f.StringVar(&w.Cluster, "cluster", "build/bin/ambit-cluster", "the program that runs the cluster")
	f.StringVar(&w.Dir, "dir", "/var/tmp/ambit-cluster", "the cluster's folder")
	f.StringVar(&w.Tree, "tree", ".", "top of the product's source tree, with build/images of it")
	f.StringVar(&w.Work, "work", "build/e2e", "folder for what the checks make")
	to := f.String("report", "build/e2e/report.json", "file for the results as JSON")
	only := f.IntSlice("only", nil, "run these checks only; what earlier ones set up must be there")
	_ = f.Parse(os.Args[1:]) // exits
	for _, path := range []*string{&w.Cluster, &w.Tree, &w.Work} {
		absolute, err := filepath.Abs(*path)
		if err != nil {
			return err
		}
		*path = absolute
	}
	if err := os.MkdirAll(w.Work, 0o755); err != nil {
		return err
	}
	kube, err := output(exec.CommandContext(ctx, w.Cluster, "build", "--tree="+w.Tree))
	if err != nil {
		return fmt.Errorf("kubectl: %w", err)
	}
	w.kube = strings.TrimSpace(kube)
	names, err := w.kubectl(ctx, "get", "nodes", "-o", "jsonpath={.items[*].metadata.name}")
	if err != nil {
		return fmt.Errorf("nodes: %w", err)
	}
	if w.nodes = strings.Fields(names); len(w.nodes) < 2 {
		return fmt.Errorf("the cluster has nodes %v; want two at least", w.nodes)
	}
	began := time.Now()
	results, err := run(ctx, &w, *only, os.Stdout)
	failed := 0
	for _, r := range results {
		if !r.OK {
			failed++
		}
	}
	fmt.Printf("\n%d of %d held, in %s\n", len(results)-failed, len(results), time.Since(began).Round(time.Second))
	if err := errors.Join(err, report(*to, results)); err != nil {
		return err
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d did not hold", failed, len(results))
	}
	return nil
}
