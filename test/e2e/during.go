package main

import (
	"bufio"
	"context"
	"fmt"
	"strings"
)

// during has a pod hold a connection, or make one after the other ("load"), until the function it answers is called: that tells
// what came of it, and fails if a held connection broke. It returns once the first answer is there.
func (w *World) during(ctx context.Context, pod, verb, address string) (stop func() (string, error), err error) {
	namespace, name, _ := strings.Cut(pod, "/")
	cmd := w.kubectlCommand(ctx, "-n", namespace, "exec", "-i", name, "-c", "main", "--", "/e2e", verb, "-until-told", address)
	in, err := cmd.StdinPipe() // its end tells the program
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() || lines.Text() != "connected" {
		return nil, fmt.Errorf("no connection to %s: %w: %s", address, cmd.Wait(), said.String())
	}
	return func() (string, error) {
		_ = in.Close() // it may have ended before
		last := ""
		for lines.Scan() {
			last = lines.Text()
		}
		if err := cmd.Wait(); err != nil {
			return last, fmt.Errorf("%w: %s", err, lastLines(said.String()))
		}
		return last, nil
	}, nil
}
