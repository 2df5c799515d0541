package demo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ambit-mesh/ambit/test/netlab"
	"github.com/ambit-mesh/ambit/test/programs/result"
)

const (
	webName     = "web.demo.svc.cluster.local"
	outsideName = "outside.example" // answered by the cluster's DNS server only
)

// Check 2: Services by virtual address and by name, with balancing and health.
func services() Check {
	return Check{
		ID: 2, Name: "Services: virtual address, name, balance, health",
		Steps: []Step{
			{"virtual IP", func(ctx context.Context, w *World) (string, error) { return w.curl(ctx, w.client, w.webVIP[0]) }},
			{"getpeername shows the virtual IP", func(ctx context.Context, w *World) (string, error) {
				return w.peername(ctx, w.client, fmt.Sprintf("%s:%d", w.webVIP[0], echoPort), w.client.IP4().String())
			}},
			{"DNS name of the mesh", func(ctx context.Context, w *World) (string, error) { return w.nameOfMesh(ctx, "A", w.webVIP[0]) }},
			{"DNS name outside the mesh is forwarded", func(ctx context.Context, w *World) (string, error) {
				return w.nameOutside(ctx, "A", "192.0.2.1")
			}},
			{"the nameserver that was meant is asked", anotherNameserver},
			{"endpoints are balanced", func(ctx context.Context, w *World) (string, error) { return w.balanced(ctx, w.webVIP[0]) }},
			{"an unready endpoint gets nothing new", func(ctx context.Context, w *World) (string, error) {
				return w.unready(ctx, w.webVIP[0])
			}},
		},
	}
}

// nameOfMesh resolves a Service's name over UDP and TCP and fetches by it, also in its short form. The answers must not come
// from the cluster's DNS server: the ztunnel gives them.
func (w *World) nameOfMesh(ctx context.Context, kind, want string) (string, error) {
	asked, err := w.questionsSeen(ctx, webName)
	if err != nil {
		return "", err
	}
	for _, transport := range []string{"--tcp=false", "--tcp=true"} {
		answer, err := run[result.DNS](ctx, w, w.client, "dns", transport, "--type", kind, webName)
		if err != nil {
			return "", err
		}
		if !slices.Equal(answer.Answers, []string{want}) || answer.From != answer.Server {
			return "", fmt.Errorf("%s: %+v, want %s from the server that was asked", transport, answer, want)
		}
	}
	for _, name := range []string{webName, "web", "web.demo"} {
		if _, err := w.curl(ctx, w.client, name); err != nil {
			return "", err
		}
	}
	after, err := w.questionsSeen(ctx, webName)
	if err != nil {
		return "", err
	}
	if after != asked {
		return "", fmt.Errorf("the cluster's DNS server was asked %d times for a name of the mesh", after-asked)
	}
	return fmt.Sprintf("%s %s is %s over UDP and TCP; curl by name, web and web.demo too", webName, kind, want), nil
}

// nameOutside resolves a name that the mesh does not know. The ztunnel forwards it from the pod's namespace: the server sees
// the pod ask, and the ztunnel counts a forwarded question.
func (w *World) nameOutside(ctx context.Context, kind, want string) (string, error) {
	before, err := w.questionsForwarded(ctx)
	if err != nil {
		return "", err
	}
	seen, err := w.questionsSeen(ctx, outsideName)
	if err != nil {
		return "", err
	}
	var servers []string
	for _, transport := range []string{"--tcp=false", "--tcp=true"} {
		answer, err := run[result.DNS](ctx, w, w.client, "dns", transport, "--type", kind, outsideName)
		if err != nil {
			return "", err
		}
		if !slices.Equal(answer.Answers, []string{want}) || answer.From != answer.Server {
			return "", fmt.Errorf("%s: %+v, want %s from the server that was asked", transport, answer, want)
		}
		servers = append(servers, answer.Server)
	}
	after, err := w.questionsForwarded(ctx)
	if err != nil {
		return "", err
	}
	if after-before < 2 {
		return "", fmt.Errorf("the ztunnel forwarded %.0f questions, want 2", after-before)
	}
	if err := netlab.Poll(ctx, 3*time.Second, func() error { // its log may come late
		now, err := w.questionsSeen(ctx, outsideName)
		if err == nil && now-seen != 2 {
			err = fmt.Errorf("the cluster's DNS server was asked %d times by the pod, want 2", now-seen)
		}
		return err
	}); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s %s is %s, from %s; the ztunnel forwarded both questions", outsideName, kind, want, servers[0]), nil
}

// anotherNameserver asks a server that is in no resolv.conf, which has an answer of its own, and then the cluster's again.
func anotherNameserver(ctx context.Context, w *World) (string, error) {
	const port, own = 53, "192.0.2.77"
	p, err := w.serveUntil(ctx, w.bystander, port, "dnsd", "--record", outsideName+"="+own)
	if err != nil {
		return "", err
	}
	defer func() { _ = p.Stop(context.WithoutCancel(ctx), unix.SIGKILL, 5*time.Second) }()
	before, err := w.questionsForwarded(ctx)
	if err != nil {
		return "", err
	}
	servers := []string{fmt.Sprintf("%s:%d", w.bystander.IP4(), port), fmt.Sprintf("[%s]:%d", w.bystander.IP6(), port)}
	for _, server := range servers {
		for _, transport := range []string{"--tcp=false", "--tcp=true"} {
			answer, err := run[result.DNS](ctx, w, w.client, "dns", transport, "--server", server, outsideName)
			if err != nil {
				return "", fmt.Errorf("%s, %s: %w", server, transport, err)
			}
			if !slices.Equal(answer.Answers, []string{own}) || answer.From != server {
				return "", fmt.Errorf("%s: %+v, want %s from %s", transport, answer, own, server)
			}
		}
	}
	after, err := w.questionsForwarded(ctx)
	if err == nil && after-before < 4 {
		err = fmt.Errorf("the ztunnel forwarded %.0f questions, want 4", after-before)
	}
	return fmt.Sprintf("%s is %s at %s, over UDP, TCP, IPv4 and IPv6; through the ztunnel", outsideName, own, servers[0]), err
}

// balanced makes many connections and wants every endpoint to get a fair share.
func (w *World) balanced(ctx context.Context, vip string) (string, error) {
	batch, err := w.many(ctx, vip, 60)
	if err != nil {
		return "", err
	}
	for _, pod := range w.web {
		if batch.By[pod.Name] < 60/len(w.web)/4 {
			return fmt.Sprint(batch.By), fmt.Errorf("%s got too few", pod.Name)
		}
	}
	return fmt.Sprintf("60 connections: %v", batch.By), nil
}

// questionsSeen counts what the cluster's DNS server was asked about a name by the client.
func (w *World) questionsSeen(ctx context.Context, name string) (int, error) {
	return w.Lab.Questions(ctx, name, w.client.IP4())
}

func (w *World) questionsForwarded(ctx context.Context) (float64, error) {
	if w.Mesh == nil {
		return 0, errNoMesh
	}
	metrics, err := w.Mesh.Metrics(ctx, "n1")
	if err != nil {
		return 0, err
	}
	return metrics.Sum("istio_dns_upstream_requests", nil), nil
}

func (w *World) many(ctx context.Context, vip string, n int) (result.Batch, error) {
	batch, err := run[result.Batch](ctx, w, w.client, "conns", "--total", fmt.Sprint(n), "--width", "6", fmt.Sprintf("%s:%d", bracket(vip), echoPort))
	if err == nil && batch.Failed > 0 {
		err = fmt.Errorf("%d of %d connections failed: %v", batch.Failed, n, batch.Errors)
	}
	return batch, err
}

// unready takes one endpoint's readiness away: soon it gets nothing, the others everything; then it comes back.
func (w *World) unready(ctx context.Context, vip string) (string, error) {
	out := w.web[1]
	if err := w.setReady(ctx, out, false); err != nil {
		return "", err
	}
	begin := time.Now()
	gone := netlab.Poll(ctx, 5*time.Second, func() error {
		batch, err := w.many(ctx, vip, 12)
		if err == nil && batch.By[out.Name] > 0 {
			err = fmt.Errorf("%s still gets connections", out.Name)
		}
		return err
	})
	took := time.Since(begin)
	var batch result.Batch
	if gone == nil {
		batch, gone = w.many(ctx, vip, 60)
	}
	if gone == nil && batch.By[out.Name] > 0 {
		gone = fmt.Errorf("%s got connections: %v", out.Name, batch.By)
	}
	back := w.setReady(ctx, out, true)
	if err := errors.Join(gone, back); err != nil {
		return "", err
	}
	if err := netlab.Poll(ctx, 5*time.Second, func() error {
		batch, err := w.many(ctx, vip, 12)
		if err == nil && batch.By[out.Name] == 0 {
			err = fmt.Errorf("%s is ready again and gets nothing", out.Name)
		}
		return err
	}); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s unready: out within %s, then 60 connections: %v; ready: back", out.Name, took.Round(10*time.Millisecond), batch.By), nil
}
