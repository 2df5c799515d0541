package demo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ambit-mesh/ambit/test/netlab"
)

const (
	strict = `apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: demo}
spec: {mtls: {mode: STRICT}}
`
	permissive = `apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: demo}
spec: {mtls: {mode: PERMISSIVE}}
`
	// exceptPort leaves one port of the store open to plaintext.
	exceptPort = `apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: store, namespace: demo}
spec:
  selector: {matchLabels: {app: store}}
  mtls: {mode: STRICT}
  portLevelMtls: {"7000": {mode: PERMISSIVE}}
`
)

// Check 4: who may speak plaintext to a pod of the mesh.
func peerAuthentication() Check {
	return Check{
		ID: 4, Name: "PeerAuthentication: STRICT, PERMISSIVE, per port; probes",
		Steps: []Step{
			{"STRICT refuses plaintext", func(ctx context.Context, w *World) (string, error) {
				return w.with(ctx, "peer-authentication", strict, func() (string, error) {
					return steps(
						func() (string, error) { return w.refused(ctx, w.stranger, w.storeAddr(echoPort)) },
						func() (string, error) { return w.allowed(ctx, w.client, w.storeAddr(echoPort)) },
						func() (string, error) { return w.deniedFor(ctx, "MTLSRequired") })
				})
			}},
			{"PERMISSIVE lets it in as unauthenticated", func(ctx context.Context, w *World) (string, error) {
				return w.with(ctx, "peer-authentication", permissive, func() (string, error) { return w.marked(ctx) })
			}},
			{"a port is excepted", func(ctx context.Context, w *World) (string, error) {
				return w.with(ctx, "peer-authentication", exceptPort, func() (string, error) {
					return steps(
						func() (string, error) { return w.refused(ctx, w.stranger, w.storeAddr(bulkPort)) },
						func() (string, error) { return w.allowed(ctx, w.stranger, w.storeAddr(echoPort)) })
				})
			}},
			{"kubelet probes pass STRICT, other host processes do not", func(ctx context.Context, w *World) (string, error) {
				return w.with(ctx, "peer-authentication", strict, func() (string, error) { return w.probes(ctx) })
			}},
		},
	}
}

// deniedFor wants the second node's ztunnel to have denied something for a reason.
func (w *World) deniedFor(ctx context.Context, reason string) (string, error) {
	n, err := w.denials(ctx, "n2", map[string]string{"reason": reason})
	if err == nil && n == 0 {
		err = fmt.Errorf("the ztunnel counts no denial for %s", reason)
	}
	return fmt.Sprintf("%.0f denials for %s counted", n, reason), err
}

// marked wants plaintext from outside to be let in and counted as not authenticated: no principal, no mutual TLS.
func (w *World) marked(ctx context.Context) (string, error) {
	plain := map[string]string{"reporter": "destination", "connection_security_policy": "unknown", "source_principal": "unknown"}
	var before, after float64
	return steps(
		func() (_ string, err error) { before, err = w.opened(ctx, "n2", plain); return "", err },
		func() (string, error) { return w.allowed(ctx, w.stranger, w.storeAddr(echoPort)) },
		func() (_ string, err error) {
			if after, err = w.opened(ctx, "n2", plain); err == nil && after <= before {
				err = errors.New("no connection is counted as unauthenticated")
			}
			return fmt.Sprintf("%.0f connections counted with source_principal=unknown", after-before), err
		})
}

// probes lets the node's kubelet and another process of the node probe a pod that accepts mutual TLS only.
func (w *World) probes(ctx context.Context) (string, error) {
	if _, err := w.refused(ctx, w.stranger, w.storeAddr(echoPort)); err != nil {
		return "", err
	}
	out, err := w.Lab.Probe(ctx, w.web[0])
	if err := errors.Join(err, out.Err()); err != nil {
		return "", fmt.Errorf("the kubelet's probe: %w", err)
	}
	var host netlab.Output
	if err := netlab.Poll(ctx, 3*time.Second, func() (err error) {
		if host, err = w.Lab.HostProbe(ctx, w.web[0]); err == nil && host.Code == 0 {
			err = fmt.Errorf("another process of the node was let in: %s", host.Stdout)
		}
		return err
	}); err != nil {
		return "", err
	}
	return fmt.Sprintf("kubelet: %.20q; another process of the node: %v", out.Stdout, host.Err()), nil
}
