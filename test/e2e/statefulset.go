package main

import (
	"context"
	_ "embed"
	"fmt"
	"strings"
	"time"
)

//go:embed manifests/statefulset.yaml
var statefulSetYAML string

// statefulSet: each pod of a set is reached by its own name, in the mesh, and its successor by the same.
func statefulSet() Check {
	asked := func(ctx context.Context, w *World) (string, error) {
		var saw []string
		for _, name := range []string{"db-0", "db-1"} {
			since := time.Now().Add(-time.Second)
			if err := poll(ctx, 30*time.Second, func() error { // until DNS has forgotten a predecessor
				text, err := w.in(ctx, "inside/client", "get", "http://"+name+".db.inside:8080/own")
				if err == nil && !strings.HasPrefix(text, "200 "+name+" was asked") {
					err = fmt.Errorf("%s answered: %s", name, text)
				}
				return err
			}); err != nil {
				return "", err
			}
			line, err := w.logged(ctx, "n1", since, `"direction":"inbound"`, `"dst.workload":"`+name+`"`, `"src.identity":"spiffe://cluster.local/ns/inside/sa/client"`)
			if err != nil {
				return "", err
			}
			saw = append(saw, name+" asked by "+field(line, "src.identity"))
		}
		return strings.Join(saw, ", "), nil
	}
	return Check{"a StatefulSet", []Step{
		{"each pod by its own name", func(ctx context.Context, w *World) (string, error) {
			if err := w.apply(ctx, statefulSetYAML); err != nil {
				return "", err
			}
			if _, err := w.kubectl(ctx, "-n", "inside", "rollout", "status", "statefulset/db", "--timeout=60s"); err != nil {
				return "", err
			}
			return asked(ctx, w)
		}},
		{"and what takes a pod's place", func(ctx context.Context, w *World) (string, error) {
			before, err := w.podIP(ctx, "inside", "statefulset.kubernetes.io/pod-name=db-1")
			if err != nil {
				return "", err
			}
			if _, err := w.kubectl(ctx, "-n", "inside", "delete", "pod", "db-1", "--timeout=60s"); err != nil {
				return "", err
			}
			if _, err := w.kubectl(ctx, "-n", "inside", "rollout", "status", "statefulset/db", "--timeout=60s"); err != nil {
				return "", err
			}
			saw, err := asked(ctx, w)
			if err != nil {
				return "", err
			}
			after, err := w.podIP(ctx, "inside", "statefulset.kubernetes.io/pod-name=db-1")
			return fmt.Sprintf("db-1 was %s, is %s; %s", before, after, saw), err
		}},
	}}
}
