package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/ambit-mesh/ambit/test/netlab"
)

// Namespaces of the demo's own workloads. The shop of the samples comes beside them, in check 5.
const (
	inside  = "demo"  // in the mesh
	outside = "plain" // never in the mesh
)

const (
	enrolLabel = "istio.io/dataplane-mode"
	echoPort   = 7000
	bulkPort   = 7100
	greetPort  = 2525
)

// World is the place of the checks with the demo's workloads in it.
type World struct {
	Config
	client, client2, stranger netlab.Pod   // on the first node; the stranger is outside the mesh
	web                       []netlab.Pod // behind Service web: two on the second node, one on the first
	store                     netlab.Pod   // second node: redis, PostgreSQL, greeting, transfers, echo
	near                      netlab.Pod   // first node: echo, transfers
	bystander                 netlab.Pod   // second node, outside the mesh: echo
	webVIP                    []string     // IPv4, IPv6
	shop                      []Deployed   // of the samples, once they are there
}

// Workloads makes the demo's workloads, pods, Services and servers, without checking anything. Enrolment, if asked for, is a
// label on the namespace, as users do it.
func Workloads(ctx context.Context, c Config) (*World, error) {
	w := &World{Config: c}
	labels := map[string]string{}
	if c.Enrol {
		labels[enrolLabel] = "ambient"
	}
	if err := c.Lab.SetNamespace(ctx, inside, labels); err != nil {
		return nil, err
	}
	pods := []struct {
		to              *netlab.Pod
		namespace, name string
		node            string
	}{
		{&w.client, inside, "client", "n1"},
		{&w.client2, inside, "client2", "n1"},
		{&w.stranger, outside, "stranger", "n1"},
		{&w.store, inside, "store", "n2"},
		{&w.near, inside, "near", "n1"},
		{&w.bystander, outside, "bystander", "n2"},
	}
	var specs []netlab.PodSpec
	for _, p := range pods {
		specs = append(specs, podSpec(p.namespace, p.name, p.node))
	}
	for i, node := range []string{"n2", "n2", "n1"} {
		specs = append(specs, netlab.PodSpec{
			Namespace: inside, Name: fmt.Sprintf("web-%d", i+1), Node: node, ServiceAccount: "web",
			Labels: map[string]string{"app": "web"}, HTTPProbe: 80,
		})
	}
	made, err := c.Lab.AddPods(ctx, specs...)
	if err != nil {
		return nil, err
	}
	for i, p := range pods {
		*p.to = made[i]
	}
	w.web = made[len(pods):]
	service, err := c.Lab.PutService(ctx, inside, "web", map[string]string{"app": "web"}, map[int]int{80: 80, echoPort: echoPort})
	if err != nil {
		return nil, err
	}
	w.webVIP = service.Spec.ClusterIPs
	return w, w.startServers(ctx)
}

// podSpec is of a pod whose service account and app label are its name.
func podSpec(namespace, name, node string) netlab.PodSpec {
	return netlab.PodSpec{Namespace: namespace, Name: name, Node: node, ServiceAccount: name, Labels: map[string]string{"app": name}}
}

func (w *World) addPod(ctx context.Context, namespace, name, node string) (netlab.Pod, error) {
	pods, err := w.Lab.AddPods(ctx, podSpec(namespace, name, node))
	if err != nil {
		return netlab.Pod{}, err
	}
	return pods[0], nil
}

func (w *World) startServers(ctx context.Context) error {
	for _, pod := range w.web {
		if err := w.nginx(ctx, pod); err != nil {
			return err
		}
	}
	for _, pod := range append([]netlab.Pod{w.store, w.near, w.bystander}, w.web...) {
		if err := w.serve(ctx, pod, echoPort, "echo", "--quiet"); err != nil {
			return err
		}
	}
	for _, pod := range []netlab.Pod{w.store, w.near} {
		if err := w.serve(ctx, pod, bulkPort, "transfer"); err != nil {
			return err
		}
	}
	for _, pod := range w.web {
		if err := w.Lab.SetReady(ctx, pod.Ref(), true); err != nil {
			return err
		}
	}
	return w.serve(ctx, w.store, greetPort, "greet")
}

// serve starts one of labprog's servers in a pod and waits until it listens.
func (w *World) serve(ctx context.Context, pod netlab.Pod, port int, program string, args ...string) error {
	_, err := w.serveUntil(ctx, pod, port, program, args...)
	return err
}

// serveUntil is serve for a server that the caller ends.
func (w *World) serveUntil(ctx context.Context, pod netlab.Pod, port int, program string, args ...string) (Program, error) {
	argv := append([]string{"labprog", program, "--listen", fmt.Sprintf(":%d", port)}, args...)
	return w.Lab.Start(ctx, netlab.Spec{Name: processName(pod, program), Pod: pod.Ref(), Argv: argv}, port)
}

func processName(pod netlab.Pod, program string) string {
	return pod.Namespace + "-" + pod.Name + "-" + program
}

func (w *World) start(ctx context.Context, pod netlab.Pod, spec netlab.Spec, port int) error {
	spec.Pod = pod.Ref()
	_, err := w.Lab.Start(ctx, spec, port)
	return err
}

// folder is a place for a pod's files on the machine, owned by the user.
func (w *World) folder(pod netlab.Pod, name string, uid, gid int) (string, error) {
	dir := filepath.Join(w.Lab.Dir(), "data", pod.Namespace+"_"+pod.Name, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	return dir, os.Chown(dir, uid, gid)
}

// exec runs a program in a pod and wants it to end well.
func (w *World) exec(ctx context.Context, pod netlab.Pod, argv ...string) (string, error) {
	out, err := w.Lab.Exec(ctx, netlab.Spec{Pod: pod.Ref(), Argv: argv})
	if err == nil {
		err = out.Err()
	}
	if err != nil {
		return "", fmt.Errorf("%s in %s: %w", argv[0], pod.Ref(), err)
	}
	return out.Stdout, nil
}

// run runs one of labprog's clients in a pod and reads its result.
func run[T any](ctx context.Context, w *World, pod netlab.Pod, argv ...string) (T, error) {
	var result T
	text, err := w.exec(ctx, pod, append([]string{"labprog"}, argv...)...)
	if err != nil {
		return result, err
	}
	if err := json.Unmarshal([]byte(text), &result); err != nil {
		return result, fmt.Errorf("%s: %w", strings.Join(argv, " "), err)
	}
	return result, nil
}
