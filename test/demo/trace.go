package demo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ambit-mesh/ambit/test/netlab"
)

// errNoMesh is what a step sees that looks for the mesh's trace when no ztunnel runs.
var errNoMesh = errors.New("no mesh runs in this lab")

// encrypted counts the connections that the ztunnel of a node has let in with mutual TLS.
func (w *World) encrypted(ctx context.Context, node string) (float64, error) {
	return w.opened(ctx, node, map[string]string{"reporter": "destination", "connection_security_policy": "mutual_tls"})
}

func (w *World) opened(ctx context.Context, node string, labels map[string]string) (float64, error) {
	if w.Mesh == nil {
		return 0, errNoMesh
	}
	metrics, err := w.Mesh.Metrics(ctx, node)
	if err != nil {
		return 0, err
	}
	return metrics.Sum("istio_tcp_connections_opened", labels), nil
}

// overMesh does something and then wants to see at least so many new connections with mutual TLS at the node of the server.
func (w *World) overMesh(ctx context.Context, node string, atLeast int, do func() (string, error)) (string, error) {
	before, err := w.encrypted(ctx, node)
	if err != nil {
		saw, doErr := do()
		return saw, errors.Join(doErr, err)
	}
	saw, err := do()
	if err != nil {
		return saw, err
	}
	var after float64
	err = netlab.Poll(ctx, 3*time.Second, func() error {
		if after, err = w.encrypted(ctx, node); err != nil {
			return err
		}
		if got := after - before; got < float64(atLeast) {
			return fmt.Errorf("the ztunnel on %s counts %.0f new connections with mutual TLS, want %d", node, got, atLeast)
		}
		return nil
	})
	if err != nil {
		return saw, err
	}
	return fmt.Sprintf("%s; %.0f over mutual TLS", saw, after-before), nil
}
