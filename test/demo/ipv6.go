package demo

import (
	"context"
	"fmt"
)

// Check 8: checks 1, 2 and 5 over IPv6.
func ipv6() Check {
	var wire capture
	c := Check{
		ID: 8, Name: "IPv6",
		Prepare: func(ctx context.Context, w *World) (err error) {
			wire, err = w.captureOneRequest(ctx, true)
			return err
		},
		Steps: []Step{
			{"nginx answers curl", func(ctx context.Context, w *World) (string, error) {
				return w.overMesh(ctx, "n2", 1, func() (string, error) { return w.curl(ctx, w.client, w.web[0].IP6().String()) })
			}},
			{"TLS 1.3 to port 15008 on the wire", func(context.Context, *World) (string, error) { return wire.tls13() }},
			{"the payload is not on the wire", func(context.Context, *World) (string, error) { return wire.secret() }},
			{"nginx logs the client's address", func(ctx context.Context, w *World) (string, error) {
				return w.overMesh(ctx, "n2", 1, func() (string, error) {
					return w.logsClient(ctx, w.client, w.web[0], w.client.IP6().String(), w.web[0].IP6().String())
				})
			}},
			{"getpeername shows the address asked for", func(ctx context.Context, w *World) (string, error) {
				return w.overMesh(ctx, "n2", 1, func() (string, error) {
					return w.peername(ctx, w.client, fmt.Sprintf("[%s]:%d", w.web[0].IP6(), echoPort), w.client.IP6().String())
				})
			}},
			{"virtual IP", func(ctx context.Context, w *World) (string, error) { return w.curl(ctx, w.client, w.webVIP[1]) }},
			{"DNS name of the mesh", func(ctx context.Context, w *World) (string, error) { return w.nameOfMesh(ctx, "AAAA", w.webVIP[1]) }},
			{"DNS name outside the mesh is forwarded", func(ctx context.Context, w *World) (string, error) {
				return w.nameOutside(ctx, "AAAA", "2001:db8::1")
			}},
			{"endpoints are balanced", func(ctx context.Context, w *World) (string, error) { return w.balanced(ctx, w.webVIP[1]) }},
			{"an unready endpoint gets nothing new", func(ctx context.Context, w *World) (string, error) {
				return w.unready(ctx, w.webVIP[1])
			}},
		},
	}
	c.Steps = append(c.Steps, sampleSteps(6)...)
	return c
}
