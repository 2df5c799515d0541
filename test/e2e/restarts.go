package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// restarts: while pods make connection after connection, the parts of the mesh are replaced one after the other.
func restarts() Check {
	replaced := func(name, what string) Step {
		return Step{name, func(ctx context.Context, w *World) (string, error) {
			const lasting = 40 * time.Second
			load := w.kubectlCommand(ctx, append(execArgs("inside/client"), "load", "-for="+lasting.String(), "server.inside:7000")...)
			type end struct {
				saw string
				err error
			}
			done := make(chan end, 1)
			go func() {
				saw, err := output(load)
				done <- end{strings.TrimSpace(saw), err}
			}()
			if _, err := w.kubectl(ctx, "-n", "ambit-system", "rollout", "restart", what); err != nil {
				return "", err
			}
			began := time.Now()
			_, err := w.kubectl(ctx, "-n", "ambit-system", "rollout", "status", what, "--timeout=180s")
			took := time.Since(began)
			e := <-done
			if err == nil {
				err = e.err
			}
			if err == nil && !strings.Contains(e.saw, ", 0 lost") {
				err = fmt.Errorf("connections were lost")
			}
			return fmt.Sprintf("replaced within %s; %s", took.Round(time.Second), e.saw), err
		}}
	}
	return Check{"parts of the mesh are replaced under load", []Step{
		replaced("the agents", "daemonset/ambit-agent"),
		replaced("the controllers", "deployment/ambit-controller"),
		replaced("the ztunnels", "daemonset/ambit-ztunnel"),
	}}
}
