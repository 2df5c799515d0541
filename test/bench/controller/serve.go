package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/ambit-mesh/ambit/controller"
	"github.com/ambit-mesh/ambit/test/bench/controller/synth"
)

// served is what the rig tells the process with the controller, and the reverse: one of the fields.
type served struct {
	Change  *podChange `json:",omitempty"`
	Usage   *usage     `json:",omitempty"` // asked for with an empty one
	Address *addresses `json:",omitempty"`
}

type addresses struct{ GRPC, HTTP string }

// usage is what the process has used.
type usage struct {
	CPU float64 // seconds
}

// serve runs the controller, alone in this process, until the input ends: with a synthetic source, or with an API server.
func serve(ctx context.Context, dir string, c synth.Cluster, kubeconfig string) error {
	src := &synthetic{cluster: c, changes: make(chan podChange, 1024)}
	cfg := controller.Config{
		Log:   slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
		CADir: filepath.Join(dir, "ca"), RootFile: filepath.Join(dir, "root.pem"), TokenKeys: []string{filepath.Join(dir, "key.pub")},
		GRPC: "127.0.0.1:0", HTTP: "127.0.0.1:0", Debug: "127.0.0.1:0", ServerNames: []string{serverName},
	}
	if kubeconfig == "" {
		cfg.Source, cfg.Statuses = src, src
	} else {
		cfg.Kubernetes = &controller.Kubernetes{Kubeconfig: kubeconfig}
	}
	out := json.NewEncoder(os.Stdout)
	cfg.Listening = func(grpc, http, _ net.Addr) {
		if err := out.Encode(served{Address: &addresses{grpc.String(), http.String()}}); err != nil {
			cfg.Log.Error("the rig cannot be told the addresses", "err", err)
		}
	}
	ctx, stop := context.WithCancel(ctx)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return controller.Run(ctx, cfg) })
	group.Go(func() error {
		defer stop()
		return obey(ctx, src.changes, out)
	})
	return group.Wait()
}

// obey does what the rig says, line by line.
func obey(ctx context.Context, changes chan<- podChange, out *json.Encoder) error {
	in := json.NewDecoder(os.Stdin)
	for {
		var line served
		if err := in.Decode(&line); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("line from the rig: %w", err)
		}
		switch {
		case line.Change != nil:
			select {
			case changes <- *line.Change:
			case <-ctx.Done():
				return nil
			}
		case line.Usage != nil:
			var u unix.Rusage
			if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
				return err
			}
			cpu := float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
			if err := out.Encode(served{Usage: &usage{CPU: cpu}}); err != nil {
				return err
			}
		}
	}
}
