package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/ambit-mesh/ambit/test/demo"
	"github.com/ambit-mesh/ambit/test/netlab"
)

// demoLab is a cluster as the demo's checks want one (demo.Lab). The API server is asked by a client and not by kubectl, and
// programs are started by the first process of their container: the checks ask often, and they freeze kubelets.
type demoLab struct {
	w    *World
	dir  string // of the machine, at the same path in every pod of the demo
	kube kubernetes.Interface
	any  dynamic.Interface

	mu       sync.Mutex
	sockets  map[string]string    // of each pod's first process, by namespace/name
	applied  map[string][]applied // by name
	frozen   map[int]bool         // pids of kubelets
	forwards map[string]*forward  // to each node's ztunnel
}

func newDemoLab(w *World) (*demoLab, error) {
	config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(w.Dir, "kubeconfig"))
	if err != nil {
		return nil, err
	}
	config.QPS, config.Burst = 100, 200
	config.WarningHandler = rest.NoWarnings{} // of the webhook, about samples that mean what they say
	l := &demoLab{
		w: w, dir: filepath.Join(w.Dir, "demo"),
		sockets: map[string]string{}, applied: map[string][]applied{}, frozen: map[int]bool{}, forwards: map[string]*forward{},
	}
	if l.kube, err = kubernetes.NewForConfig(config); err != nil {
		return nil, err
	}
	if l.any, err = dynamic.NewForConfig(config); err != nil {
		return nil, err
	}
	for _, dir := range []string{"sockets", "logs", "data"} {
		if err := os.MkdirAll(filepath.Join(l.dir, dir), 0o755); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// close ends what the lab has running on the machine.
func (l *demoLab) close() {
	l.thaw()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.forwards {
		f.end()
	}
	clear(l.forwards)
}

// Dir is part of demo.Lab.
func (l *demoLab) Dir() string { return l.dir }

// Capture is part of demo.Lab: tcpdump runs on the node, at its link to the other.
func (l *demoLab) Capture(ctx context.Context, node, file string) (demo.Program, error) {
	log, err := os.Create(file + ".log")
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := l.w.onNodeCommand(context.WithoutCancel(ctx), node, "tcpdump", "-i", "eth0", "-U", "--immediate-mode", "-s", "0", "-B", "16384", "-Z", "root", "-w", file, "tcp")
	cmd.Stderr = log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &machineProgram{pid: cmd.Process.Pid, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // it is ended by a signal
		close(p.done)
	}()
	err = poll(ctx, 10*time.Second, func() error { // before it says so it would miss the handshake
		text, err := os.ReadFile(log.Name())
		if err == nil && !strings.Contains(string(text), "listening on") {
			err = fmt.Errorf("tcpdump says: %s", text)
		}
		return err
	})
	if err != nil {
		return nil, errors.Join(err, p.Stop(ctx, unix.SIGKILL, time.Second))
	}
	return p, nil
}

// machineProgram is a process group of the machine.
type machineProgram struct {
	pid  int
	done chan struct{}
}

// Stop is part of demo.Program.
func (p *machineProgram) Stop(ctx context.Context, sig unix.Signal, limit time.Duration) error {
	if err := unix.Kill(-p.pid, sig); err != nil {
		return err
	}
	return ended(ctx, p.done, limit)
}

// ended waits until done is closed.
func ended(ctx context.Context, done <-chan struct{}, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("it lives on: %w", ctx.Err())
	}
}

// Questions is part of demo.Lab: CoreDNS logs each, as `[INFO] CLIENT:PORT - ID "TYPE IN NAME. ...`.
func (l *demoLab) Questions(ctx context.Context, name string, client netip.Addr) (n int, err error) {
	pods, err := l.kube.CoreV1().Pods("kube-system").List(ctx, metav1.ListOptions{LabelSelector: "k8s-app=kube-dns"})
	if err != nil {
		return 0, err
	}
	for _, pod := range pods.Items {
		log, err := l.kube.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, &corev1.PodLogOptions{}).DoRaw(ctx)
		if err != nil {
			return 0, err
		}
		for line := range strings.Lines(string(log)) {
			if strings.Contains(line, " IN "+name+". ") && strings.Contains(line, " "+client.String()+":") {
				n++
			}
		}
	}
	return n, nil
}

// Probe is part of demo.Lab. A kubelet takes no orders, but it probes each second and one failure is enough for it: that the
// pod stays ready for some seconds, in which the node's kernel lets probes in, is its answer.
func (l *demoLab) Probe(ctx context.Context, pod netlab.Pod) (out netlab.Output, err error) {
	if err := l.SetReady(ctx, pod.Ref(), true); err != nil {
		return out, err
	}
	before, err := l.w.outcome(ctx, pod.Node, "probe_admitted")
	if err != nil {
		return out, err
	}
	const probes = 4
	for range probes {
		select {
		case <-ctx.Done():
			return out, ctx.Err()
		case <-time.After(time.Second):
		}
		object, err := l.kube.CoreV1().Pods(pod.Namespace).Get(ctx, pod.Name, metav1.GetOptions{})
		if err != nil {
			return out, err
		}
		if !ready(object) {
			return out, errors.New("the pod is not ready any more")
		}
	}
	after, err := l.w.outcome(ctx, pod.Node, "probe_admitted")
	if err == nil && after-before < probes-1 {
		err = fmt.Errorf("the node's kernel let %.0f probes in", after-before)
	}
	out.Stdout = fmt.Sprintf("ready for %d seconds", probes)
	return out, err
}

// HostProbe is part of demo.Lab.
func (l *demoLab) HostProbe(ctx context.Context, pod netlab.Pod) (netlab.Output, error) {
	said, err := l.w.onNode(ctx, pod.Node, "curl", "-sS", "-f", "--max-time", "3", fmt.Sprintf("http://%s/", pod.IP4()))
	if err != nil {
		return netlab.Output{Code: 1, Stderr: err.Error()}, nil
	}
	return netlab.Output{Stdout: said}, nil
}
