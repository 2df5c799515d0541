package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/ambit-mesh/ambit/test/netlab"
)

// Check 5: the shop of the samples, under the samples' policies.
func authorization() Check {
	return Check{
		ID: 5, Name: "authorization as in the samples",
		Prepare: func(ctx context.Context, w *World) error { return w.openShop(ctx) },
		Steps:   sampleSteps(4),
	}
}

// call is a connection between two pods of the samples.
type call struct {
	from, to string // namespace/deployment
	port     int
}

func (c call) String() string {
	return fmt.Sprintf("%s to %s:%d", c.from[strings.Index(c.from, "/")+1:], c.to[strings.Index(c.to, "/")+1:], c.port)
}

// What the samples allow, and some of what they do not.
var (
	allowedCalls = []call{
		{"ingress/ingress-gateway", "shop/web", 8080},
		{"shop/web", "shop/cart", 8080},
		{"shop/cart", "shop/payments", 8080},
		{"shop/payments", "shop/database", 5432},
	}
	wrongPrincipal = []call{
		{"shop/web", "shop/payments", 8080},
		{"shop/cart", "shop/database", 5432},
		{"shop/payments", "shop/web", 8080},
		{"ingress/ingress-gateway", "shop/cart", 8080},
	}
	wrongPort = []call{
		{"shop/web", "shop/cart", unlistedPort},
		{"ingress/ingress-gateway", "shop/web", unlistedPort},
	}
)

// sampleSteps are check 5 over one address family, 4 or 6.
func sampleSteps(family int) []Step {
	return []Step{
		{"what is allowed, by principal and port", func(ctx context.Context, w *World) (string, error) {
			if err := w.openShop(ctx); err != nil {
				return "", err
			}
			return w.allCalls(ctx, family, allowedCalls, w.allowedOverTLS)
		}},
		{"all else is denied: principal", func(ctx context.Context, w *World) (string, error) {
			return w.allCalls(ctx, family, wrongPrincipal, w.refusedBy("NoAllowMatched", "shop/allow-nothing"))
		}},
		{"all else is denied: port", func(ctx context.Context, w *World) (string, error) {
			return w.allCalls(ctx, family, wrongPort, w.refusedBy("NoAllowMatched", "shop/allow-nothing"))
		}},
		{"namespace isolation, and the denial names its policy", func(ctx context.Context, w *World) (string, error) {
			web, err := w.shopPod("shop/web")
			if err != nil {
				return "", err
			}
			return w.refusedBy("ExplicitDeny", "shop/namespace-isolation")(ctx, w.client, web, pick(web, family)+":8080")
		}},
		{"plaintext from the legacy namespace", func(ctx context.Context, w *World) (string, error) {
			batch, err := w.shopPod("legacy/batch")
			if err != nil {
				return "", err
			}
			web, err := w.shopPod("shop/web")
			if err != nil {
				return "", err
			}
			return steps(
				func() (string, error) {
					return w.refusedBy("", "")(ctx, batch, web, pick(web, family)+":8080")
				},
				func() (string, error) {
					saw, err := w.allowed(ctx, batch, pick(web, family)+":9090")
					return "metrics port, excepted: " + saw, err
				})
		}},
	}
}

func pick(pod netlab.Pod, family int) string {
	if family == 6 {
		return "[" + pod.IP6().String() + "]"
	}
	return pod.IP4().String()
}

// attempt judges one connection between two pods.
type attempt func(ctx context.Context, from, to netlab.Pod, addr string) (string, error)

func (w *World) allCalls(ctx context.Context, family int, calls []call, try attempt) (string, error) {
	var seen []string
	var last string
	for _, c := range calls {
		from, err := w.shopPod(c.from)
		if err != nil {
			return "", err
		}
		to, err := w.shopPod(c.to)
		if err != nil {
			return "", err
		}
		if last, err = try(ctx, from, to, fmt.Sprintf("%s:%d", pick(to, family), c.port)); err != nil {
			return strings.Join(seen, ", "), fmt.Errorf("%s: %w", c, err)
		}
		seen = append(seen, c.String())
	}
	return strings.Join(seen, ", ") + "; the last: " + last, nil
}

func (w *World) allowedOverTLS(ctx context.Context, from, to netlab.Pod, addr string) (string, error) {
	return w.overMesh(ctx, to.Node, 1, func() (string, error) { return w.allowed(ctx, from, addr) })
}

// refusedBy wants a connection refused, counted with this reason (any if empty) and policy (any if empty), and logged.
func (w *World) refusedBy(reason, policy string) attempt {
	return func(ctx context.Context, from, to netlab.Pod, addr string) (string, error) {
		labels := map[string]string{}
		if reason != "" {
			labels["reason"] = reason
		}
		if policy != "" {
			labels["policy"] = policy
		}
		before, err := w.denials(ctx, to.Node, labels)
		if err != nil {
			return "", err
		}
		saw, err := w.refused(ctx, from, addr)
		if err != nil {
			return "", err
		}
		after, err := w.denials(ctx, to.Node, labels)
		if err != nil {
			return saw, err
		}
		if after <= before {
			return saw, fmt.Errorf("the ztunnel on %s counts no denial with %v", to.Node, labels)
		}
		line, err := w.denialLogged(ctx, to, from, policy)
		if err != nil {
			return saw, err
		}
		said, err := w.why(ctx, from, to, addr, reason, policy)
		return fmt.Sprintf("%s; counted: %v; logged: %s; ambit why: %s", saw, labels, line, said), err
	}
}

// why asks `ambit why` about the server's ztunnel, and wants the answer that the ztunnel gave.
func (w *World) why(ctx context.Context, from, to netlab.Pod, addr, reason, policy string) (string, error) {
	argv := []string{"-o", "json"}
	if from.Namespace == "legacy" || from.Namespace == outside {
		argv = append(argv, "--client-ip", from.IP4().String(), "none", addr)
	} else {
		argv = append(argv, from.Ref(), addr)
	}
	text, err := w.Mesh.Why(ctx, to.Node, argv...)
	if err != nil {
		return "", err
	}
	var answer struct{ Verdict, Reason, Policy string }
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		return "", fmt.Errorf("ambit why: %w", err)
	}
	said := strings.TrimSpace(answer.Verdict + " " + answer.Reason + " " + answer.Policy)
	if !strings.EqualFold(answer.Verdict, "deny") || (reason != "" && answer.Reason != reason) || (policy != "" && answer.Policy != policy) {
		return said, fmt.Errorf("ambit why says %q, want deny %s %s", said, reason, policy)
	}
	return said, nil
}

// denialLogged finds the last line of the ztunnel's log about a denied connection between two pods.
func (w *World) denialLogged(ctx context.Context, to, from netlab.Pod, policy string) (string, error) {
	log, err := w.Mesh.ZtunnelLog(ctx, to.Node)
	if err != nil {
		return "", err
	}
	found := ""
	for line := range strings.Lines(log) {
		if strings.Contains(line, "inbound") && strings.Contains(line, policy) && names(line, from) && names(line, to) {
			found = strings.TrimSpace(line)
		}
	}
	if found == "" {
		return "", fmt.Errorf("no line in the ztunnel's log names %s, %s and policy %q", from.Ref(), to.Ref(), policy)
	}
	for _, key := range []string{"error=", `"error":`} {
		if i := strings.Index(found, key); i >= 0 {
			found = found[i:]
		}
	}
	return found, nil
}

// names reports whether a line of a log has one of a pod's addresses. Its name need not be there: a workload is called as what
// made its pods.
func names(line string, pod netlab.Pod) bool {
	return strings.Contains(line, pod.IP4().String()+":") || strings.Contains(line, pod.IP6().String()+"]:")
}
