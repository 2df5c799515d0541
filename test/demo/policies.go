package demo

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ambit-mesh/ambit/test/netlab"
	"github.com/ambit-mesh/ambit/test/programs/result"
)

// settle bounds how long a policy may take from the folder to the ztunnels.
const settle = 5 * time.Second

// with applies a manifest for the time of do.
func (w *World) with(ctx context.Context, name, manifest string, do func() (string, error)) (string, error) {
	if err := w.Lab.Apply(ctx, name, []byte(manifest)); err != nil {
		return "", err
	}
	saw, err := do()
	return saw, errors.Join(err, w.Lab.Remove(context.WithoutCancel(ctx), name))
}

// talks tries one connection to an echo server.
func (w *World) talks(ctx context.Context, from netlab.Pod, to string) (result.Peer, error) {
	return run[result.Peer](ctx, w, from, "peername", "--timeout", "3s", to)
}

// allowed waits until a connection works and then wants three more to work.
func (w *World) allowed(ctx context.Context, from netlab.Pod, to string) (string, error) {
	return w.steady(ctx, from, to, func(err error) error { return err })
}

// refused waits until a connection is refused and then wants three more to be. Refused means by somebody, now: a timeout is
// no refusal.
func (w *World) refused(ctx context.Context, from netlab.Pod, to string) (string, error) {
	return w.steady(ctx, from, to, func(err error) error {
		switch {
		case err == nil:
			return errors.New("the connection was let through")
		case strings.Contains(err.Error(), "timeout"):
			return fmt.Errorf("no refusal but silence: %w", err)
		}
		return nil
	})
}

func (w *World) steady(ctx context.Context, from netlab.Pod, to string, judge func(error) error) (string, error) {
	begin := time.Now()
	var last error
	try := func() error {
		_, last = w.talks(ctx, from, to)
		return judge(last)
	}
	if err := netlab.Poll(ctx, settle, try); err != nil {
		return "", fmt.Errorf("%s to %s: %w", from.Ref(), to, err)
	}
	took := time.Since(begin)
	for range 3 {
		if err := try(); err != nil {
			return "", fmt.Errorf("%s to %s, after it had settled: %w", from.Ref(), to, err)
		}
	}
	if last != nil {
		return fmt.Sprintf("%s refused (after %s)", from.Name, took.Round(time.Millisecond)), nil
	}
	return fmt.Sprintf("%s let in (after %s)", from.Name, took.Round(time.Millisecond)), nil
}

// denials counts the connections that the ztunnel of a node denied because of a policy.
func (w *World) denials(ctx context.Context, node string, labels map[string]string) (float64, error) {
	if w.Mesh == nil {
		return 0, errNoMesh
	}
	metrics, err := w.Mesh.Metrics(ctx, node)
	if err != nil {
		return 0, err
	}
	return metrics.Sum("ambit_ztunnel_connections_denied", labels), nil
}

// steps runs one after another and joins what they saw.
func steps(all ...func() (string, error)) (string, error) {
	var seen []string
	for _, step := range all {
		saw, err := step()
		if saw != "" {
			seen = append(seen, saw)
		}
		if err != nil {
			return strings.Join(seen, "; "), err
		}
	}
	return strings.Join(seen, "; "), nil
}
