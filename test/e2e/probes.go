package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// probes: under STRICT the kubelet's probes pass, of every kind, for pods that run and for pods that start.
func probes() Check {
	return Check{"probes under STRICT", []Step{
		{"TCP, HTTP, gRPC and exec probes bring a new pod up", func(ctx context.Context, w *World) (string, error) {
			before, err := w.outcome(ctx, "n2", "probe_admitted")
			if err != nil {
				return "", err
			}
			if _, err := w.kubectl(ctx, "-n", "inside", "rollout", "restart", "deployment/server"); err != nil {
				return "", err
			}
			if _, err := w.kubectl(ctx, "-n", "inside", "rollout", "status", "deployment/server", "--timeout=90s"); err != nil {
				return "", err
			}
			after, err := w.outcome(ctx, "n2", "probe_admitted")
			if err == nil && after <= before {
				err = errors.New("no probe was told from other plaintext: they pass for another reason")
			}
			return fmt.Sprintf("ready; %.0f connections of probes since", after-before), err
		}},
		{"it stays ready, and is not restarted", func(ctx context.Context, w *World) (string, error) {
			if err := w.oldGone(ctx, "inside", "app=server", 1); err != nil { // of the replaced one, with its hook
				return "", err
			}
			before, err := w.lives(ctx, "inside")
			if err != nil {
				return "", err
			}
			from, err := w.outcome(ctx, "n2", "probe_admitted")
			if err != nil {
				return "", err
			}
			// Three rounds of three network probes, and more than any failureThreshold.
			if err := poll(ctx, time.Minute, func() error {
				now, err := w.outcome(ctx, "n2", "probe_admitted")
				if err == nil && now < from+12 {
					err = fmt.Errorf("%.0f probes", now-from)
				}
				return err
			}); err != nil {
				return "", err
			}
			after, err := w.lives(ctx, "inside")
			if err == nil && before != after {
				err = fmt.Errorf("%s before, %s after", before, after)
			}
			if err != nil {
				return "", err
			}
			return "12 more probes, no restart", w.workloadsReady(ctx)
		}},
	}}
}

// outcome reads one of the agent's counters of what the kernel did.
func (w *World) outcome(ctx context.Context, node, name string) (float64, error) {
	text, err := w.onNode(ctx, node, "curl", "-sS", "--max-time", "5", "--unix-socket", "/run/ambit/status.sock", "http://agent/metrics")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, `ambit_agent_datapath_outcomes_total{outcome="`+name+`"} `); ok {
			var n float64
			_, err := fmt.Sscan(value, &n)
			return n, err
		}
	}
	return 0, errors.New("the agent does not count " + name)
}
