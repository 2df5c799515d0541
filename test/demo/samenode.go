package demo

import (
	"context"
	"fmt"
)

const forbidNear = `apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: near, namespace: demo}
spec:
  selector: {matchLabels: {app: near}}
  action: ALLOW
  rules:
  - from: [{source: {principals: ["cluster.local/ns/demo/sa/client"]}}]
    to: [{operation: {ports: ["7000"]}}]
`

// Check 7: pods of one node get the same treatment.
func sameNode() Check {
	return Check{ID: 7, Name: "same node, same policy", Steps: []Step{
		{"two pods of a node talk", func(ctx context.Context, w *World) (string, error) {
			return w.overMesh(ctx, "n1", 1, func() (string, error) {
				return w.peername(ctx, w.client, w.nearAddr(echoPort), w.client.IP4().String())
			})
		}},
		{"policy by principal and port holds", func(ctx context.Context, w *World) (string, error) {
			return w.with(ctx, "same-node", forbidNear, func() (string, error) {
				return steps(
					func() (string, error) { return w.refused(ctx, w.client2, w.nearAddr(echoPort)) },
					func() (string, error) { return w.refused(ctx, w.stranger, w.nearAddr(echoPort)) },
					func() (string, error) { return w.allowed(ctx, w.client, w.nearAddr(echoPort)) },
					func() (string, error) { return w.refused(ctx, w.client, w.nearAddr(bulkPort)) })
			})
		}},
	}}
}

func (w *World) nearAddr(port int) string { return fmt.Sprintf("%s:%d", w.near.IP4(), port) }
