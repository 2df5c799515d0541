package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// The policy that deploy/README.md tells users to write, and the one they may have from before.
const (
	throughMeshYAML = `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: through-mesh, namespace: inside}
spec:
  podSelector: {matchLabels: {app: server}}
  policyTypes: [Ingress]
  ingress:
  - from: [{podSelector: {matchLabels: {app: client}}}]
    ports: [{port: 15008}]
`
	fromBeforeYAML = `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: from-before, namespace: inside}
spec:
  podSelector: {matchLabels: {app: server}}
  policyTypes: [Ingress]
  ingress:
  - ports: [{port: 8080}]
`
)

// networkPolicy: the cluster's network sees a pod's connections of the mesh as coming from that pod's address to the other pod's port
// 15008. The bridge plugin of the cluster enforces no NetworkPolicy; nft at the pod's device does it here, as a plugin that does would.
func networkPolicy() Check {
	asked := func(ctx context.Context, w *World, pod string) (string, error) {
		return w.in(ctx, pod, "get", "http://server.inside/policy")
	}
	refused := func(ctx context.Context, w *World, pod string) error {
		if saw, err := asked(ctx, w, pod); err == nil {
			return fmt.Errorf("%s was answered: %s", pod, saw)
		}
		return nil
	}
	return Check{"NetworkPolicy that denies by default", []Step{
		{"port 15008 from one pod: that pod, and probes", func(ctx context.Context, w *World) (string, error) {
			if err := w.enforce(ctx, "through-mesh", throughMeshYAML); err != nil {
				return "", err
			}
			before, err := w.outcome(ctx, "n2", "probe_admitted")
			if err != nil {
				return "", err
			}
			lives, err := w.lives(ctx, "inside")
			if err != nil {
				return "", err
			}
			saw, err := asked(ctx, w, "inside/client")
			if err != nil {
				return "", err
			}
			if err := errors.Join(refused(ctx, w, "inside/other"), refused(ctx, w, "outside/stranger")); err != nil {
				return saw, err
			}
			after, err := w.outcome(ctx, "n2", "probe_admitted")
			if err == nil && after <= before {
				err = errors.New("no probe came through")
			}
			if now, livesErr := w.lives(ctx, "inside"); err == nil && now != lives {
				err = errors.Join(livesErr, fmt.Errorf("pods were restarted: %s before, %s after", lives, now))
			}
			return fmt.Sprintf("client: %s; other and stranger got nothing; %.0f probes", saw, after-before), err
		}},
		{"the application's port alone: nobody of the mesh", func(ctx context.Context, w *World) (string, error) {
			if err := w.enforce(ctx, "from-before", fromBeforeYAML); err != nil {
				return "", err
			}
			if err := refused(ctx, w, "inside/client"); err != nil {
				return "", err
			}
			return asked(ctx, w, "outside/stranger")
		}},
		{"without one all is as before", func(ctx context.Context, w *World) (string, error) {
			if _, err := w.onNode(ctx, "n2", "nft", "delete", "table", "netdev", "e2e"); err != nil {
				return "", err
			}
			if _, err := w.kubectl(ctx, "-n", "inside", "delete", "networkpolicy", "--all"); err != nil {
				return "", err
			}
			return eventually(ctx, 30*time.Second, func() (string, error) { return asked(ctx, w, "inside/client") })
		}},
	}}
}

// enforce stores a policy and makes the server's node drop what it does not allow: of TCP, what is sent to ports from which nothing is
// dialled. As Kubernetes has it, a pod's own node may always reach it.
func (w *World) enforce(ctx context.Context, name, text string) error {
	if err := w.apply(ctx, text); err != nil {
		return err
	}
	allowed, err := w.kubectl(ctx, "-n", "inside", "get", "networkpolicy", name, "-o",
		"go-template={{range .spec.ingress}}{{range .ports}}{{.port}}{{end}} {{range .from}}{{.podSelector.matchLabels.app}}{{end}}{{end}}")
	if err != nil {
		return err
	}
	port, app, _ := strings.Cut(allowed, " ")
	server, err := w.podIP(ctx, "inside", "app=server")
	if err != nil {
		return err
	}
	// The pod's device on its node, by its address on the bridge.
	device, err := w.onNode(ctx, "n2", "sh", "-c", fmt.Sprintf(
		`m=$(ip neigh show %s dev cni0 | awk '{print $3}'); bridge fdb show br cni0 | awk -v m="$m" '$1 == m {print $3; exit}'`, server))
	if err != nil {
		return err
	}
	if device = strings.TrimSpace(device); device == "" {
		return fmt.Errorf("no device of %s on its node's bridge", server)
	}
	node, err := w.onNode(ctx, "n2", "sh", "-c", `ip -4 -o address show cni0 | awk '{sub("/.*", "", $4); print $4}'`)
	if err != nil {
		return err
	}
	rules := []string{"ip saddr " + strings.TrimSpace(node) + " accept"}
	if app == "" {
		rules = append(rules, "tcp dport "+port+" accept")
	} else {
		ips, err := w.podIPs(ctx, "inside", "app="+app)
		if err != nil {
			return err
		}
		for _, ip := range ips {
			family := "ip6"
			if ip.Is4() {
				family = "ip"
			}
			rules = append(rules, fmt.Sprintf("%s saddr %s tcp dport %s accept", family, ip, port))
		}
	}
	script := fmt.Sprintf("table netdev e2e\ndelete table netdev e2e\ntable netdev e2e { chain to_pod { type filter hook egress device %q priority 0; %s; tcp dport < 32768 drop; }; }\n",
		device, strings.Join(rules, "; "))
	cmd := w.onNodeCommand(ctx, "n2", "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(script)
	_, err = output(cmd)
	return err
}

// podIPs are all addresses of the pod that a selector finds.
func (w *World) podIPs(ctx context.Context, namespace, selector string) (ips []netip.Addr, err error) {
	text, err := w.kubectl(ctx, "-n", namespace, "get", "pods", "-l", selector, "-o", "jsonpath={.items[*].status.podIPs[*].ip}")
	if err != nil {
		return nil, err
	}
	for f := range strings.FieldsSeq(text) {
		ip, err := netip.ParseAddr(f)
		if err != nil {
			return nil, err
		}
		ips = append(ips, ip)
	}
	return ips, nil
}
