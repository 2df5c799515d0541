package demo

import (
	"context"
	"fmt"
	"time"

	"github.com/ambit-mesh/ambit/test/netlab"
	"github.com/ambit-mesh/ambit/test/programs/result"
)

const forbidClient2 = `apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-client2, namespace: demo}
spec:
  selector: {matchLabels: {app: store}}
  action: DENY
  rules:
  - from: [{source: {principals: ["cluster.local/ns/demo/sa/client2"]}}]
`

// Check 6: a policy closes the live connections it forbids, and only those, within a second.
func revocation() Check {
	return Check{ID: 6, Name: "a policy change closes the live connections that it forbids", Steps: []Step{
		{"closed within a second, the other lives", func(ctx context.Context, w *World) (string, error) {
			return w.overMesh(ctx, "n2", 2, func() (string, error) { return w.revoke(ctx) })
		}},
	}}
}

func (w *World) revoke(ctx context.Context) (string, error) {
	doomed, spared := w.stream(ctx, w.client2, w.storeAddr(echoPort), 6*time.Second), w.stream(ctx, w.client, w.storeAddr(echoPort), 6*time.Second)
	wait(ctx, 2*time.Second)
	applied := time.Now()
	if err := w.Lab.Apply(ctx, "revocation", []byte(forbidClient2)); err != nil {
		return "", err
	}
	first, firstErr := doomed()
	second, secondErr := spared()
	if err := w.Lab.Remove(context.WithoutCancel(ctx), "revocation"); err != nil {
		return "", err
	}
	switch {
	case firstErr != nil:
		return "", firstErr
	case secondErr != nil:
		return "", secondErr
	case !first.Closed:
		return "", fmt.Errorf("the forbidden connection lived on for %d exchanges", first.Exchanges)
	case first.End.Before(applied):
		return "", fmt.Errorf("the connection ended before the policy was written: %s", first.Error)
	case first.End.Sub(applied) > time.Second:
		return "", fmt.Errorf("the connection was closed after %s", first.End.Sub(applied))
	case second.Closed:
		return "", fmt.Errorf("the allowed connection was closed too: %s", second.Error)
	}
	if _, err := w.allowed(ctx, w.client2, w.storeAddr(echoPort)); err != nil {
		return "", fmt.Errorf("after the policy was removed: %w", err)
	}
	return fmt.Sprintf("client2's connection closed %s after the policy was written (%s); client's went on, %d exchanges",
		first.End.Sub(applied).Round(time.Millisecond), first.Error, second.Exchanges), nil
}

// stream starts a long connection; the returned function waits for its end.
func (w *World) stream(ctx context.Context, from netlab.Pod, to string, length time.Duration, args ...string) func() (result.Stream, error) {
	type end struct {
		result.Stream
		error
	}
	ended := make(chan end, 1)
	go func() {
		s, err := run[result.Stream](ctx, w, from, append(append([]string{"stream", "--for", length.String()}, args...), to)...)
		ended <- end{s, err}
	}()
	return func() (result.Stream, error) {
		e := <-ended
		return e.Stream, e.error
	}
}

// wait lets time pass.
func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
