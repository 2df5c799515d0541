package demo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ambit-mesh/ambit/test/netlab"
	"github.com/ambit-mesh/ambit/test/netlab/mesh"
	"github.com/ambit-mesh/ambit/test/programs/result"
)

// Check 9: parts of the mesh die by SIGKILL and come back.
func restarts() Check {
	return Check{ID: 9, Name: "parts of the mesh are killed and come back", Steps: []Step{
		{"the client's ztunnel: connections wait", func(ctx context.Context, w *World) (string, error) {
			return w.ztunnelDies(ctx, "n1")
		}},
		{"the server's ztunnel: connections wait", func(ctx context.Context, w *World) (string, error) {
			return w.ztunnelDies(ctx, "n2")
		}},
		{"the agents: connections go on", func(ctx context.Context, w *World) (string, error) { return w.agentsDie(ctx) }},
		{"agents and ztunnels: nothing gets past the mesh", func(ctx context.Context, w *World) (string, error) {
			return w.allDie(ctx)
		}},
		{"the controller: traffic goes on, new pods later", func(ctx context.Context, w *World) (string, error) {
			return w.controllerDies(ctx)
		}},
	}}
}

// ztunnelDies connects while no ztunnel runs on a node: all must wait and succeed once it is back.
func (w *World) ztunnelDies(ctx context.Context, node string) (string, error) {
	if w.Mesh == nil {
		return "", errNoMesh
	}
	if err := w.Mesh.Kill(ctx, mesh.ZtunnelName(node)); err != nil {
		return "", err
	}
	begin := time.Now()
	batch := w.inBackground(ctx, w.client, "conns", "--total", "40", "--width", "40", "--timeout", "20s", w.storeAddr(echoPort))
	wait(ctx, 1500*time.Millisecond)
	early := batch.ended()
	if err := w.Mesh.StartZtunnel(ctx, node); err != nil {
		return "", err
	}
	back := time.Since(begin)
	got, err := batch.wait()
	if err != nil {
		return "", err
	}
	saw := fmt.Sprintf("40 connections made while it was dead: %d succeeded, slowest %s; it was back after %s", got.OK, got.Max.Round(time.Millisecond), back.Round(time.Millisecond))
	switch {
	case got.Failed > 0:
		return saw, fmt.Errorf("%d failed: %v", got.Failed, got.Errors)
	case early || got.Max < time.Second:
		return saw, errors.New("the connections did not need the ztunnel")
	}
	return saw, nil
}

// agentsDie makes connections at a steady rate while both agents are killed and come back, and some more in the time in which
// there is none: the ztunnels' stock of sockets carries them, which lasts about five seconds at the recent rate. Whether the
// kernel's programs stayed attached shows in the ids of their links.
func (w *World) agentsDie(ctx context.Context) (string, error) {
	if w.Mesh == nil {
		return "", errNoMesh
	}
	links, err := w.Mesh.Links()
	if err == nil && len(links) == 0 {
		err = errors.New("no link is pinned: nothing is attached")
	}
	if err != nil {
		return "", err
	}
	const steady, alone = 1000, 100
	long := w.stream(ctx, w.client, w.storeAddr(echoPort), 7*time.Second)
	batch := w.inBackground(ctx, w.client, "conns", "--total", fmt.Sprint(steady), "--width", "1", "--gap", "5ms", "--timeout", "10s", w.storeAddr(echoPort))
	wait(ctx, 2*time.Second)
	for _, node := range []string{"n1", "n2"} {
		if err := w.Mesh.Kill(ctx, mesh.AgentName(node)); err != nil {
			return "", err
		}
	}
	without, err := w.overMesh(ctx, "n2", alone, func() (string, error) {
		got, err := run[result.Batch](ctx, w, w.client, "conns", "--total", fmt.Sprint(alone), "--width", "2", "--timeout", "10s", w.storeAddr(echoPort))
		if err == nil && got.Failed > 0 {
			err = fmt.Errorf("%d of %d failed without the agents: %v", got.Failed, alone, got.Errors)
		}
		return fmt.Sprintf("%d new connections with no agent, slowest %s", got.OK, got.Max.Round(time.Millisecond)), err
	})
	early := batch.ended()
	for _, node := range []string{"n1", "n2"} { // they must come back, whatever became of the step
		err = errors.Join(err, w.Mesh.StartAgent(context.WithoutCancel(ctx), node))
	}
	got, batchErr := batch.wait()
	lived, streamErr := long()
	after, linksErr := w.Mesh.Links()
	saw := fmt.Sprintf("%s; at a steady rate through kill and restart: %d, none failed, slowest %s; a live one went on (%d exchanges); the same %d links",
		without, got.OK, got.Max.Round(time.Millisecond), lived.Exchanges, len(links))
	switch err := errors.Join(err, batchErr, streamErr, linksErr); {
	case err != nil:
		return without, err
	case got.Failed > 0:
		return without, fmt.Errorf("%d of %d at a steady rate failed: %v", got.Failed, steady, got.Errors)
	case early:
		return saw, errors.New("the steady connections had ended before the agents came back")
	case lived.Closed:
		return saw, fmt.Errorf("a connection that lived through it was closed: %s", lived.Error)
	case !slices.Equal(links, after):
		return saw, fmt.Errorf("links %v became %v: detached and attached anew", links, after)
	}
	again, err := w.overMesh(ctx, "n2", 1, func() (string, error) { return w.allowed(ctx, w.client, w.storeAddr(echoPort)) })
	return saw + "; " + again, err
}

// allDie kills agent and ztunnel of both nodes. Whatever is tried then must not reach a program.
func (w *World) allDie(ctx context.Context) (string, error) {
	if w.Mesh == nil {
		return "", errNoMesh
	}
	const port = 2526 // a server of its own on both, whose log counts
	for _, pod := range []netlab.Pod{w.store, w.bystander} {
		if err := w.start(ctx, pod, netlab.Spec{Name: processName(pod, "witness"), Argv: []string{"labprog", "greet", "--listen", fmt.Sprintf(":%d", port)}}, port); err != nil {
			return "", err
		}
	}
	store, bystander := fmt.Sprintf("%s:%d", w.store.IP4(), port), fmt.Sprintf("%s:%d", w.bystander.IP4(), port)
	for _, node := range []string{"n1", "n2"} {
		if err := errors.Join(w.Mesh.Kill(ctx, mesh.AgentName(node)), w.Mesh.Kill(ctx, mesh.ZtunnelName(node))); err != nil {
			return "", err
		}
	}
	var problems []error
	for _, try := range []struct {
		from netlab.Pod
		to   string
	}{{w.client, store}, {w.stranger, store}, {w.client, bystander}} {
		if seen, err := run[result.Peer](ctx, w, try.from, "peername", "--say", "", "--timeout", "1500ms", try.to); err == nil {
			problems = append(problems, fmt.Errorf("%s reached %s past the mesh: %s", try.from.Name, try.to, seen.Answer))
		}
	}
	for _, pod := range []netlab.Pod{w.store, w.bystander} {
		log, err := w.Lab.LogText(processName(pod, "witness"))
		if n := strings.Count(log, "connection "); n > 0 {
			err = errors.Join(err, fmt.Errorf("the server in %s saw %d connections", pod.Name, n))
		}
		problems = append(problems, err)
	}
	for _, node := range []string{"n1", "n2"} {
		problems = append(problems, w.Mesh.StartAgent(ctx, node), w.Mesh.StartZtunnel(ctx, node))
	}
	if err := errors.Join(problems...); err != nil {
		return "", err
	}
	saw, err := w.overMesh(ctx, "n2", 1, func() (string, error) { return w.allowed(ctx, w.client, w.storeAddr(echoPort)) })
	return "in, from outside and out: nothing reached a program; back: " + saw, err
}

// controllerDies connects while no controller runs; once it is back, a new pod must get into the mesh.
func (w *World) controllerDies(ctx context.Context) (string, error) {
	if w.Mesh == nil {
		return "", errNoMesh
	}
	if err := w.Mesh.Kill(ctx, mesh.ControllerName); err != nil {
		return "", err
	}
	saw, err := w.overMesh(ctx, "n2", 50, func() (string, error) {
		batch, err := run[result.Batch](ctx, w, w.client, "conns", "--total", "50", "--width", "4", w.storeAddr(echoPort))
		if err == nil && batch.Failed > 0 {
			err = fmt.Errorf("%d of 50 failed without the controller: %v", batch.Failed, batch.Errors)
		}
		return fmt.Sprintf("%d new connections without a controller", batch.OK), err
	})
	if err := errors.Join(err, w.Mesh.StartController(ctx)); err != nil {
		return saw, err
	}
	late, err := w.addPod(ctx, inside, "late", "n2")
	if err != nil {
		return saw, err
	}
	if err := w.serve(ctx, late, echoPort, "echo"); err != nil {
		return saw, err
	}
	after, err := w.overMesh(ctx, "n2", 1, func() (string, error) {
		return w.allowed(ctx, w.client, fmt.Sprintf("%s:%d", late.IP4(), echoPort))
	})
	return saw + "; to a pod made after its return: " + after, err
}

// background is a batch that runs while something else is done.
type background struct {
	done chan struct{}
	got  result.Batch
	err  error
}

func (w *World) inBackground(ctx context.Context, from netlab.Pod, argv ...string) *background {
	b := &background{done: make(chan struct{})}
	go func() {
		defer close(b.done)
		b.got, b.err = run[result.Batch](ctx, w, from, argv...)
	}()
	return b
}

func (b *background) ended() bool {
	select {
	case <-b.done:
		return true
	default:
		return false
	}
}

func (b *background) wait() (result.Batch, error) {
	<-b.done
	return b.got, b.err
}
