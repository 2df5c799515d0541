// Command images makes the product's OCI images without a Docker daemon: one layer of static programs each, the same bytes
// from the same sources, with a bill of materials.
//
// It answers "what is in an image, and as whom does it run?" (spec.go) and writes the answer as OCI archives that containerd
// imports, or pushes it to a registry. It compiles with the go command of its PATH and decides nothing about installing.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/pflag"
)

// options are the flags.
type options struct {
	source, out   string
	hub, tag      string
	version       string
	architectures []string
	only          []string
	push          bool
	insecure      bool
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var o options
	f := pflag.NewFlagSet("images", pflag.ExitOnError)
	f.StringVar(&o.source, "source", ".", "root of the product's module")
	f.StringVar(&o.out, "out", "build/images", "folder for the archives (<image>.tar) and bills of materials (<image>-<arch>.cdx.json)")
	f.StringVar(&o.hub, "hub", "docker.io/ambit", "registry and repository prefix of the images' names")
	f.StringVar(&o.tag, "tag", "dev", "tag of the images")
	f.StringVar(&o.version, "version", "dev", "version that the programs and labels tell")
	f.StringSliceVar(&o.architectures, "arch", []string{"amd64", "arm64"}, "architectures")
	f.StringSliceVar(&o.only, "only", nil, "images to make (default: all)")
	f.BoolVar(&o.push, "push", false, "push to the hub besides; credentials are those of docker login")
	f.BoolVar(&o.insecure, "insecure", false, "push over plain HTTP")
	_ = f.Parse(os.Args[1:]) // exits
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "images:", err)
		os.Exit(1)
	}
}

// run makes every image asked for and says where it is.
func run(ctx context.Context, o options) error {
	specs, err := choose(o.only)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return err
	}
	for _, spec := range specs {
		made, err := assemble(ctx, o, spec)
		if err != nil {
			return fmt.Errorf("image %s: %w", spec.name, err)
		}
		for _, b := range made.boms {
			if err := os.WriteFile(filepath.Join(o.out, spec.name+"-"+b.arch+".cdx.json"), b.text, 0o644); err != nil {
				return err
			}
		}
		path := filepath.Join(o.out, spec.name+".tar")
		if err := archive(made, path); err != nil {
			return fmt.Errorf("archive of %s: %w", spec.name, err)
		}
		digest, err := made.index.Digest()
		if err != nil {
			return err
		}
		fmt.Printf("%-12s %s  %s  (%s)\n", spec.name, made.name, digest, strings.Join(o.architectures, ", "))
		if !o.push {
			continue
		}
		if err := push(ctx, made); err != nil {
			return fmt.Errorf("push %s: %w", made.name, err)
		}
		fmt.Printf("%-12s pushed\n", "")
	}
	return nil
}
