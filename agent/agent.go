// Package agent is the node's privileged half of the mesh. It answers how a pod's traffic comes to the ztunnel: it decides
// which pods belong to the mesh, captures them with eBPF, makes every socket that lives in a pod, and hands the sockets to an
// unprivileged ztunnel. It never reads a byte of traffic and knows no policy. cmd/agent calls Run and Uninstall.
//
//	source --(pods)--> fleet --(enroll.Decide)--> datapath: hooks, listeners      (pinned: outlives the agent)
//	                     |  \--> podnet: settings of the namespace                (remembered on disk)
//	cni   --(ADD)------->|   \--> handoff: pods and sockets to the ztunnels        (which keep the listeners)
//
// Stopping the agent changes nothing for traffic; the next one adopts everything. Uninstall ends it.
package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/ambit-mesh/ambit/agent/cni"
	"github.com/ambit-mesh/ambit/agent/datapath"
	"github.com/ambit-mesh/ambit/agent/enroll"
	"github.com/ambit-mesh/ambit/agent/handoff"
	"github.com/ambit-mesh/ambit/agent/netns"
	"github.com/ambit-mesh/ambit/agent/podnet"
	"github.com/ambit-mesh/ambit/agent/pods"
	"github.com/ambit-mesh/ambit/agent/sockets"
	"github.com/ambit-mesh/ambit/agent/source"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Run is the agent, until ctx ends or something it cannot do without fails.
func Run(ctx context.Context, cfg Config) error {
	if err := cfg.check(); err != nil {
		return err
	}
	err := run(ctx, cfg)
	if err != nil && ctx.Err() == nil && cfg.Kubernetes {
		lastWord(ctx, &cfg, err)
	}
	return err
}

// run is Run with a configuration that makes sense.
func run(ctx context.Context, cfg Config) error {
	unlock, err := prepare(&cfg)
	if err != nil {
		return err
	}
	defer unlock()
	home, err := netns.Current()
	if err != nil {
		return err
	}
	defer home.Close()
	homeCookie, err := home.Cookie()
	if err != nil {
		return err
	}
	podSource, err := makeSource(&cfg)
	if err != nil {
		return err
	}
	doors, err := openDoors(ctx, &cfg) // before anything is attached: a port that is taken must change nothing
	if err != nil {
		return err
	}
	defer doors.close()
	kernel, err := datapath.Load(datapath.Config{PinDir: cfg.PinDir, CgroupRoot: cfg.CgroupRoot, ProcDir: cfg.ProcDir, Log: cfg.Log})
	if err != nil {
		return err
	}
	defer kernel.Close()
	cfg.CgroupRoot = kernel.CgroupRoot()
	for _, what := range kernel.Features().Degraded() {
		cfg.Log.Warn("this kernel lacks something", "what", what)
	}

	registry := prometheus.NewRegistry()
	registry.MustRegister(newKernelCollector(kernel, cfg.Log))
	foreign := &foreignWatch{list: kernel.Foreign, allow: cfg.AllowForeign, log: cfg.Log}
	foreign.look()
	meshes := newMeshWatch(cfg.CNIConfDir, cfg.Log)
	meshes.look()
	kubelet := &kubeletWatch{cfg: &cfg, home: homeCookie, set: kernel.SetKubelet, log: cfg.Log}
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil { // the runtime has raised it as far as it goes
		return fmt.Errorf("limit of open files: %w", err)
	}
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	f := newFleet(&cfg, podSource, realKernel{kernel}, home.ID(), registry)
	f.most, f.neighbours = podBudget(files.Cur), meshes.news
	f.events, _ = podSource.(eventSource)
	f.node = func() enroll.Node {
		return enroll.Node{
			SystemNamespace: cfg.SystemNamespace, ExcludedNamespaces: cfg.ExcludedNamespaces, Selectors: cfg.Selectors,
			CaptureDNS: cfg.CaptureDNS, StrictCapture: cfg.StrictCapture, OtherMeshes: meshes.list(), ForeignHooks: load(&foreign.against),
		}
	}
	taint := &untainter{key: cfg.NodeTaint, missing: f.missing, log: cfg.Log}
	taint.say("not looked after")
	web := &pages{registry: registry, log: cfg.Log, ready: f.missing, stuck: func() error { return f.stuck(time.Now()) }}
	web.status = func(ctx context.Context) (Status, error) {
		list, err := f.pods(ctx)
		s := Status{
			Node: cfg.Node, Missing: f.missing(), Degraded: kernel.Features().Degraded(), Foreign: load(&foreign.all), OtherMeshes: meshes.list(),
			Selectors: cfg.selectorsForPeople(), Ztunnels: f.handoff.Ztunnels(), Pods: list,
		}
		if k := kubelet.state.Load(); k != nil {
			s.Kubelet = *k
		}
		s.Taint = *taint.state.Load()
		s.Ready = len(s.Missing) == 0
		return s, err
	}

	look := func() health {
		h := health{missing: f.missing(), against: load(&foreign.against), unserved: f.handoff.Unserved()}
		if r := f.rewritten.Load(); r != nil {
			h.rewritten = *r
		}
		h.meshes = meshes.list()
		if k := kubelet.refused.Load(); k != nil {
			h.kubelet = *k
		}
		return h
	}

	group, ctx := errgroup.WithContext(ctx)
	start := func(run func(context.Context) error) { group.Go(func() error { return run(ctx) }) }
	start(kernel.Run)
	start(podSource.Run)
	start(f.handoff.Run)
	start(f.run)
	start(kubelet.run)
	start(foreign.run)
	start(meshes.run)
	if nodes, ok := podSource.(nodeSource); ok && cfg.NodeTaint != "" {
		taint.remove = nodes.Untaint
		start(taint.run)
	}
	if err := startCNI(start, &cfg, f); err != nil { // before the pages, which tell whether it is done
		group.Go(func() error { return err })
	}
	doors.serve(ctx, group, web)
	if nodes, ok := podSource.(nodeEventSource); ok {
		start((&voice{look: look, warn: nodes.WarnNode}).run)
	}
	cfg.Log.Info("agent started", "node", cfg.Node, "adopted", len(kernel.Enrolled()))
	err = group.Wait()
	cfg.Log.Info("agent stopped; what is enrolled stays captured", "err", err)
	return err
}

// newFleet wires the reconcile loop and its hand-off server to each other.
func newFleet(cfg *Config, from podSource, k fleetKernel, home netns.ID, registry prometheus.Registerer) *fleet {
	f := &fleet{
		source: from, kernel: k, tag: k, log: cfg.Log, metrics: newMetrics(registry),
		settings: &podnet.Settings{Dir: filepath.Join(cfg.StateDir, "settings"), Ports: enroll.MeshPorts(), Sys: cfg.SysctlDir},
		limiter:  sockets.NewLimiter(sockets.DefaultLimits()),
		finder:   &finder{dir: cfg.NetnsDir, proc: cfg.ProcDir, home: home, log: cfg.Log},
		complete: make(chan struct{}), questions: make(chan *question), views: make(chan chan []PodStatus),
		namespace: &namespaces{byUID: map[pods.UID]*netns.Handle{}},
		members:   map[pods.UID]*member{}, adopted: map[uint64]datapath.Pod{},
	}
	f.handoff = handoff.New(handoff.Config{
		Path: cfg.HandoffSocket, UID: cfg.ZtunnelUID, Node: cfg.Node, Allow: admission(cfg.ZtunnelUID, cfg.ZtunnelCgroup, cfg.ZtunnelAccount, from.Set),
		Make: f.makeSockets, Absence: cfg.Absence, Drain: cfg.Drain, Reset: sockets.Reset, Log: cfg.Log, Metrics: handoff.NewMetrics(registry),
	})
	return f
}

// startCNI answers the plugin, and installs it only when the agent can: until then pods start as before.
func startCNI(start func(func(context.Context) error), cfg *Config, f *fleet) error {
	if cfg.CNISocket == "" {
		return nil
	}
	server := &cni.Server{Path: cfg.CNISocket, Handle: f.ask, Timeout: cfg.CNITimeout, Log: cfg.Log}
	start(server.Run)
	if cfg.CNIConfDir == "" {
		return nil
	}
	i, err := cfg.installer()
	if err != nil {
		return err
	}
	f.chained(errors.New("not looked for yet"))
	i.Report, i.Rewritten = f.chained, func(message string) { f.rewritten.Store(&message) }
	start(func(ctx context.Context) error {
		select {
		case <-f.complete:
			return i.Run(ctx)
		case <-ctx.Done():
			return nil
		}
	})
	return nil
}

func (c *Config) installer() (*cni.Installer, error) {
	entry, err := cni.Entry(c.CNISocket, c.ExcludedNamespaces, c.pluginTimeout())
	if err != nil {
		return nil, err
	}
	return &cni.Installer{Dir: c.CNIConfDir, Entry: entry, Source: c.CNIBinary, Bin: c.CNIBinDir, Log: c.Log}, nil
}

func makeSource(cfg *Config) (podSource, error) {
	if !cfg.Kubernetes {
		return source.NewFolder(cfg.Manifests, cfg.Node, cfg.Log), nil
	}
	client, err := source.Connect(cfg.Kubeconfig)
	if err != nil {
		return nil, err
	}
	return source.NewKubernetes(client, cfg.Node, cfg.Log), nil
}

// prepare checks what cannot be done without and makes sure that this is the only agent of its node.
func prepare(cfg *Config) (unlock func(), err error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("the agent must run as root (CAP_BPF, CAP_NET_ADMIN, CAP_SYS_ADMIN and CAP_PERFMON): run it with sudo, or as the chart's DaemonSet")
	}
	if err := os.MkdirAll(filepath.Dir(cfg.StateDir), 0o755); err != nil { // shared with sockets that others reach
		return nil, fmt.Errorf("state directory: %w", err)
	}
	if err := os.Mkdir(cfg.StateDir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	// An agent that is being replaced may take a moment to end.
	return lockState(cfg.StateDir, time.Now().Add(10*time.Second))
}

// lockState makes this the only agent that uses dir, once the other has ended or the deadline is over.
func lockState(dir string, deadline time.Time) (unlock func(), err error) {
	lock, err := os.OpenFile(filepath.Join(dir, "agent.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	for {
		if err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
			return func() { lock.Close() }, nil
		}
		if time.Now().After(deadline) {
			return nil, errors.Join(fmt.Errorf("another agent runs for this node: it holds %s: %w", lock.Name(), err), lock.Close())
		}
		time.Sleep(50 * time.Millisecond)
	}
}
