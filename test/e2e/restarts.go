package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// restarts: while a pod makes connection after connection and holds another one open, the parts of the mesh are replaced one after
// the other. No new connection may be lost; the one that is held may end only with the ztunnel that carries it.
func restarts() Check {
	replaced := func(name, what, app string, mayBreak bool) Step {
		return Step{name, func(ctx context.Context, w *World) (string, error) {
			load, err := w.during(ctx, "inside/client", "load", "server.inside:7000")
			if err != nil {
				return "", err
			}
			hold, err := w.during(ctx, "inside/client", "hold", "server.inside:7000")
			if err != nil {
				_, stopped := load()
				return "", errors.Join(err, stopped)
			}
			began := time.Now()
			_, rolled := w.kubectl(ctx, "-n", "ambit-system", "rollout", "restart", what)
			if rolled == nil {
				_, rolled = w.kubectl(ctx, "-n", "ambit-system", "rollout", "status", what, "--timeout=150s")
			}
			took := time.Since(began)
			count := len(w.nodes)
			if strings.HasPrefix(what, "deployment") {
				count = controllers
			}
			gone := w.oldGone(ctx, "ambit-system", "app="+app, count)
			all := time.Since(began)
			saw, err := load()
			if err == nil {
				err = noneLost(saw)
			}
			held, broke := hold()
			lives := "1 held connection, 0 lost"
			switch {
			case broke != nil && mayBreak: // it had the time to end that ztunnel.drainSeconds gives
				lives = "1 held connection, 1 lost when its ztunnel ended"
			case broke != nil:
				err = errors.Join(err, fmt.Errorf("the connection that was held: %w", broke))
			case held == "":
				err = errors.Join(err, errors.New("the held connection says nothing"))
			}
			return fmt.Sprintf("new ones ready within %s, old ones gone within %s; %s; %s", took.Round(time.Second), all.Round(time.Second), saw, lives),
				errors.Join(rolled, gone, err)
		}}
	}
	return Check{"parts of the mesh are replaced under load", []Step{
		replaced("the agents", "daemonset/ambit-agent", "ambit-agent", false),
		replaced("the controllers", "deployment/ambit-controller", "ambit-controller", false),
		replaced("the ztunnels", "daemonset/ambit-ztunnel", "ambit-ztunnel", true),
	}}
}

// controllers is how many replicas the chart has by default.
const controllers = 2

// noneLost reads what the load said of itself.
func noneLost(load string) error {
	if !strings.Contains(load, ", 0 lost") {
		return fmt.Errorf("connections were lost: %s", load)
	}
	return nil
}

// oldGone waits until of the pods that a selector finds only so many are left, those that are about to go included.
func (w *World) oldGone(ctx context.Context, namespace, selector string, count int) error {
	return poll(ctx, 90*time.Second, func() error {
		all, err := w.kubectl(ctx, "-n", namespace, "get", "pods", "-l", selector, "-o", "name")
		if err == nil && len(strings.Fields(all)) != count {
			err = fmt.Errorf("pods %q, want %d", all, count)
		}
		return err
	})
}
