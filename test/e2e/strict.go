package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const strictYAML = `apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: inside}
spec: {mtls: {mode: STRICT}}
`

// strict: STRICT means that nobody outside the mesh gets through, wherever he is.
func strict() Check {
	refused := func(ask func(ctx context.Context, w *World, server string) (string, error)) func(context.Context, *World) (string, error) {
		return func(ctx context.Context, w *World) (string, error) {
			server, err := w.podIP(ctx, "inside", "app=server")
			if err != nil {
				return "", err
			}
			var last error
			var since time.Time
			if err := poll(ctx, 30*time.Second, func() error { // until the policy has arrived
				since = time.Now().Add(-time.Second) // the API's times have no smaller unit
				saw, err := ask(ctx, w, server)
				if last = err; err == nil {
					return fmt.Errorf("answered: %s", saw)
				}
				return nil
			}); err != nil {
				return "", err
			}
			line, err := w.logged(ctx, "n2", since, `"reason":"MTLSRequired"`)
			return fmt.Sprintf("refused (%s); %s", lastLines(last.Error()), field(line, "policy")), err
		}
	}
	return Check{"STRICT", []Step{
		{"the policy is stored, checked by the webhook", func(ctx context.Context, w *World) (string, error) {
			// The admission webhook decides: it must be reachable from the API server.
			bad := `{"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": {"name": "bad", "namespace": "inside"},
				"spec": {"rules": [{"from": [{"source": {"ipBlocks": ["no address"]}}]}]}}`
			err := w.apply(ctx, bad)
			if err == nil {
				return "", errors.New("a policy with a block that is no address was stored")
			}
			return "refused: " + lastLines(err.Error()), w.apply(ctx, strictYAML)
		}},
		{"a pod outside the mesh, on the other node", refused(func(ctx context.Context, w *World, server string) (string, error) {
			return w.in(ctx, "outside/stranger", "get", "http://"+server+":8080/strict")
		})},
		{"a pod with the node's own network", refused(func(ctx context.Context, w *World, server string) (string, error) {
			return w.in(ctx, "outside/host", "get", "http://"+server+":8080/strict")
		})},
		{"another process of the node", refused(func(ctx context.Context, w *World, server string) (string, error) {
			return w.onNode(ctx, "n2", "curl", "-sS", "--max-time", "5", "http://"+server+":8080/strict")
		})},
		{"who is in the mesh gets through", func(ctx context.Context, w *World) (string, error) {
			return w.in(ctx, "inside/client", "get", "http://server.inside/strict")
		}},
	}}
}
