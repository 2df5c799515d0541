package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"
)

// services: all the ways to a server that Kubernetes has lead there from inside the mesh, and what is outside it is reached.
func services() Check {
	from := func(what, argv, url, want string) Step {
		return Step{what, func(ctx context.Context, w *World) (string, error) {
			saw, err := w.in(ctx, "inside/client", argv, url)
			if err == nil && !strings.Contains(saw, want) {
				err = fmt.Errorf("the answer lacks %q", want)
			}
			return saw, err
		}}
	}
	return Check{"Services, DNS, what is outside", []Step{
		from("ClusterIP by its short name", "get", "http://server/cluster", "200 server-"),
		from("by its full name", "get", "http://server.inside.svc.cluster.local/cluster", "200 server-"),
		from("headless", "get", "http://headless.inside:8080/headless", "200 server-"),
		from("a pod outside the mesh, by its Service", "get", "http://stranger.outside:8080/out", "200 stranger "),
		{"the Service's address, and the pod's, of each family", func(ctx context.Context, w *World) (string, error) {
			text, err := w.kubectl(ctx, "-n", "inside", "get", "service/server", "-o", "jsonpath={.spec.clusterIPs[*]}")
			if err != nil {
				return "", err
			}
			var targets []string
			for f := range strings.FieldsSeq(text) {
				targets = append(targets, net.JoinHostPort(f, "80"))
			}
			ips, err := w.podIPs(ctx, "inside", "app=server")
			if err != nil {
				return "", err
			}
			for _, ip := range ips {
				targets = append(targets, net.JoinHostPort(ip.String(), "8080"))
			}
			for _, target := range targets {
				if saw, err := w.in(ctx, "inside/client", "get", "http://"+target+"/address"); err != nil || !strings.Contains(saw, "200 server-") {
					return saw, fmt.Errorf("%s: %w", target, err)
				}
			}
			return strings.Join(targets, ", "), nil
		}},
		{"NodePort and LoadBalancer, from a pod of the mesh", func(ctx context.Context, w *World) (string, error) {
			text, err := w.kubectl(ctx, "-n", "inside", "get", "service/server", "-o", "jsonpath={.status.loadBalancer.ingress[0].ip} {.spec.ports[0].nodePort}")
			if err != nil {
				return "", err
			}
			balancer, port, _ := strings.Cut(text, " ")
			ip, err := w.kubectl(ctx, "get", "node", "n1", "-o", "jsonpath={.status.addresses[0].address}")
			if err != nil {
				return "", err
			}
			first, err := w.in(ctx, "inside/client", "get", "http://"+ip+":"+port+"/nodeport")
			if err != nil {
				return "", err
			}
			second, err := w.in(ctx, "inside/client", "get", "http://"+balancer+"/balancer")
			return first + "; " + second, err
		}},
		{"LoadBalancer, from outside the cluster", func(ctx context.Context, w *World) (string, error) {
			address, err := w.kubectl(ctx, "-n", "inside", "get", "service/server", "-o", "jsonpath={.status.loadBalancer.ingress[0].ip}")
			if err != nil {
				return "", err
			}
			return web(ctx, "http://"+address+"/outside")
		}},
		{"NodePort, from outside the cluster", func(ctx context.Context, w *World) (string, error) {
			port, err := w.kubectl(ctx, "-n", "inside", "get", "service/server", "-o", "jsonpath={.spec.ports[0].nodePort}")
			if err != nil {
				return "", err
			}
			ip, err := w.kubectl(ctx, "get", "node", "n1", "-o", "jsonpath={.status.addresses[0].address}")
			if err != nil {
				return "", err
			}
			return web(ctx, "http://"+ip+":"+port+"/nodeport")
		}},
	}}
}

// web asks from the machine, which is outside of every node.
func web(ctx context.Context, url string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s", url, resp.Status)
	}
	return url + ": " + resp.Status, nil
}
