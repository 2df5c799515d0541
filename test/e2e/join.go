package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// join: a label on the namespace brings the pods that run into the mesh. None of them is restarted, and connections that
// are open go on.
func join() Check {
	return Check{"a labelled namespace joins", []Step{
		{"pods join without a restart, old connections live", func(ctx context.Context, w *World) (string, error) {
			before, err := w.lives(ctx, "inside")
			if err != nil {
				return "", err
			}
			held, err := w.during(ctx, "inside/client", "hold", "server.inside:7000")
			if err != nil {
				return "", err
			}
			if _, err := w.kubectl(ctx, "label", "namespace", "inside", "istio.io/dataplane-mode=ambient"); err != nil {
				return "", err
			}
			began := time.Now()
			if err := w.annotated(ctx, "inside", "enabled"); err != nil {
				return "", err
			}
			took := time.Since(began)
			saw, err := held()
			if err != nil {
				return "", fmt.Errorf("the connection that was open before: %w", err)
			}
			after, err := w.lives(ctx, "inside")
			if err == nil && after != before {
				err = fmt.Errorf("pods were restarted: %s before, %s after", before, after)
			}
			return fmt.Sprintf("captured within %s; %s", took.Round(100*time.Millisecond), saw), err
		}},
		{"the agents hold every pod, and the ztunnels have them", func(ctx context.Context, w *World) (string, error) {
			var saw []string
			for _, node := range w.nodes {
				s, err := w.agent(ctx, node)
				if err != nil {
					return "", err
				}
				for _, p := range s.Pods {
					switch in := p.Namespace == "inside"; {
					case in && (!p.Enrolled || !p.Acked || p.Error != ""):
						return "", fmt.Errorf("%s: %+v", node, p)
					case !in && p.Enrolled:
						return "", fmt.Errorf("%s: %s/%s is enrolled", node, p.Namespace, p.Name)
					case in:
						saw = append(saw, fmt.Sprintf("%s on %s (%d older connections)", p.Name, node, p.Older))
					}
				}
			}
			return strings.Join(saw, ", "), nil
		}},
		{"the server's ztunnel knows who asks", func(ctx context.Context, w *World) (string, error) {
			since := time.Now()
			saw, err := w.in(ctx, "inside/client", "get", "http://server.inside/joined")
			if err != nil {
				return "", err
			}
			line, err := w.logged(ctx, "n2", since, `"direction":"inbound"`, `"src.identity":"spiffe://cluster.local/ns/inside/sa/client"`, `"dst.identity":"spiffe://cluster.local/ns/inside/sa/server"`)
			if err != nil {
				return saw, err
			}
			ips, err := w.podIPs(ctx, "inside", "app=client")
			if err == nil && !slices.ContainsFunc(ips, func(ip netip.Addr) bool { return strings.Contains(saw, "asked by "+ip.String()+" ") }) {
				err = fmt.Errorf("the server did not see the client's own address: %s", ips)
			}
			return saw + "; " + field(line, "src.identity"), err
		}},
	}}
}

// field is one member of a line of the access log, for people.
func field(line, name string) string {
	_, rest, ok := strings.Cut(line, `"`+name+`":"`)
	value, _, _ := strings.Cut(rest, `"`)
	if !ok {
		return name + " is not in the log line"
	}
	return name + " " + value
}
