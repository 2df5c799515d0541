package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const allowClientYAML = `apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: client-only, namespace: inside}
spec:
  selector: {matchLabels: {app: server}}
  action: ALLOW
  rules:
  - from: [{source: {principals: [cluster.local/ns/inside/sa/client]}}]
    to: [{operation: {ports: ["8080"]}}]
`

// authorization: an AuthorizationPolicy decides by identity and port, and a denial names it.
func authorization() Check {
	denied := func(pod, url string) func(context.Context, *World) (string, error) {
		return func(ctx context.Context, w *World) (string, error) {
			since := time.Now()
			if err := poll(ctx, 30*time.Second, func() error { // until the policy has arrived
				since = time.Now()
				if saw, err := w.in(ctx, pod, "get", url); err == nil {
					return fmt.Errorf("answered: %s", saw)
				}
				return nil
			}); err != nil {
				return "", err
			}
			line, err := w.logged(ctx, "n2", since.Add(-time.Second), `"reason":"NoAllowMatched"`, `"policy":"inside/client-only`)
			return field(line, "src.identity") + ", " + field(line, "reason") + ", " + field(line, "policy"), err
		}
	}
	return Check{"AuthorizationPolicy", []Step{
		{"the policy is stored and says that it is in force", func(ctx context.Context, w *World) (string, error) {
			if err := w.apply(ctx, allowClientYAML); err != nil {
				return "", err
			}
			return eventually(ctx, 20*time.Second, func() (string, error) {
				saw, err := w.kubectl(ctx, "-n", "inside", "get", "authorizationpolicy", "client-only", "-o",
					`jsonpath={range .status.conditions[*]}{.type}={.status} {.reason}; {end}`)
				if err == nil && saw == "" {
					err = errors.New("no condition")
				}
				return saw, err
			})
		}},
		{"another account of the namespace is denied", denied("inside/other", "http://server.inside/denied")},
		{"the right account at another port is denied", func(ctx context.Context, w *World) (string, error) {
			saw, err := w.in(ctx, "inside/client", "knock", "server.inside:7000")
			if err == nil {
				return "", fmt.Errorf("answered: %s", saw)
			}
			return lastLines(err.Error()), nil
		}},
		{"the right account is allowed", func(ctx context.Context, w *World) (string, error) {
			return w.in(ctx, "inside/client", "get", "http://server.inside/allowed")
		}},
		{"without it all of the mesh is allowed again", func(ctx context.Context, w *World) (string, error) {
			if _, err := w.kubectl(ctx, "-n", "inside", "delete", "authorizationpolicy", "client-only"); err != nil {
				return "", err
			}
			saw, err := eventually(ctx, 30*time.Second, func() (string, error) { return w.in(ctx, "inside/other", "get", "http://server.inside/undenied") })
			if err != nil {
				return "", err
			}
			// What else was denied; the checks that follow use it.
			knocked, err := eventually(ctx, 30*time.Second, func() (string, error) { return w.in(ctx, "inside/client", "knock", "server.inside:7000") })
			return saw + "; the other port: " + knocked, err
		}},
	}}
}
