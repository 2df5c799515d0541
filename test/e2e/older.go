package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strings"
)

//go:embed manifests/older.yaml
var olderYAML string

// older: connections that are older than their pod's enrolment go on past the mesh and are counted, to the pod and from it;
// where capture is strict they are destroyed, and new ones go through the mesh.
func older() Check {
	// both are a connection from the pod and one to it.
	both := func(ctx context.Context, w *World) (from, to func() (string, error), err error) {
		ip, err := w.podIP(ctx, "older", "app=caller")
		if err != nil {
			return nil, nil, err
		}
		if from, err = w.during(ctx, "older/caller", "hold", "stranger.outside:7000"); err != nil {
			return nil, nil, err
		}
		if to, err = w.during(ctx, "outside/stranger", "hold", ip+":7000"); err != nil {
			_, stopped := from()
			return nil, nil, errors.Join(err, stopped)
		}
		return from, to, nil
	}
	joined := func(ctx context.Context, w *World, labels ...string) error {
		if _, err := w.kubectl(ctx, append([]string{"label", "namespace", "older", "istio.io/dataplane-mode=ambient"}, labels...)...); err != nil {
			return err
		}
		return w.annotated(ctx, "older", "enabled")
	}
	return Check{"connections older than the enrolment", []Step{
		{"are kept, and counted", func(ctx context.Context, w *World) (string, error) {
			if err := w.apply(ctx, olderYAML); err != nil {
				return "", err
			}
			if _, err := w.kubectl(ctx, "-n", "older", "wait", "--for=condition=Ready", "pods", "--all", "--timeout=60s"); err != nil {
				return "", err
			}
			from, to, err := both(ctx, w)
			if err != nil {
				return "", err
			}
			joinErr := joined(ctx, w)
			sent, fromErr := from()
			got, toErr := to()
			if err := errors.Join(joinErr, fromErr, toErr); err != nil {
				return "", err
			}
			s, err := w.agent(ctx, "n1")
			if err != nil {
				return "", err
			}
			for _, p := range s.Pods {
				if p.Namespace == "older" && p.Older != 2 {
					err = fmt.Errorf("the agent counted %d older connections, want 2", p.Older)
				}
			}
			return "2 counted; from the pod " + sent + ", to it " + got, err
		}},
		{"are destroyed where capture is strict", func(ctx context.Context, w *World) (string, error) {
			if _, err := w.kubectl(ctx, "label", "namespace", "older", "istio.io/dataplane-mode-"); err != nil {
				return "", err
			}
			if err := w.annotated(ctx, "older", ""); err != nil {
				return "", err
			}
			before, err := w.outcome(ctx, "n1", "older_destroyed")
			if err != nil {
				return "", err
			}
			from, to, err := both(ctx, w)
			if err != nil {
				return "", err
			}
			joinErr := joined(ctx, w, "ambit.io/strict-capture=true")
			_, fromErr := from()
			_, toErr := to()
			if joinErr != nil {
				return "", joinErr
			}
			if fromErr == nil || toErr == nil {
				return "", fmt.Errorf("a connection lives on: from the pod (%v), to it (%v)", fromErr, toErr)
			}
			after, err := w.outcome(ctx, "n1", "older_destroyed")
			if err == nil && after != before+2 {
				err = fmt.Errorf("the agent counted %.0f, want 2", after-before)
			}
			return "2 counted; from the pod: " + lastLines(fromErr.Error()), err
		}},
		{"and new ones go through the mesh", func(ctx context.Context, w *World) (string, error) {
			saw, err := w.in(ctx, "older/caller", "get", "http://stranger.outside:8080/newer")
			if err != nil {
				return "", err
			}
			if !strings.Contains(saw, "200 stranger") {
				return saw, errors.New("another answered")
			}
			_, err = w.kubectl(ctx, "delete", "namespace", "older", "--timeout=60s")
			return saw, err
		}},
	}}
}
