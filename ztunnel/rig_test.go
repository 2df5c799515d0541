package ztunnel

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/ambit-mesh/ambit/ztunnel/cert"
	"github.com/ambit-mesh/ambit/ztunnel/cert/certtest"
	"github.com/ambit-mesh/ambit/ztunnel/sockets"
	"github.com/ambit-mesh/ambit/ztunnel/sockets/socketstest"
	"github.com/ambit-mesh/ambit/ztunnel/state"
	"github.com/ambit-mesh/ambit/ztunnel/telemetry"
)

// patience is how long a test waits for what must happen.
const patience = 10 * time.Second

func TestMain(m *testing.M) {
	before := openSockets()
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
		if after := openSockets(); after > before {
			fmt.Fprintf(os.Stderr, "%d sockets open before the tests, %d after\n", before, after)
			code = 1
		}
	}
	os.Exit(code)
}

// openSockets counts this process's sockets; pipes that carry spliced data are kept for the next relay.
func openSockets() (n int) {
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, e := range entries {
		if what, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.HasPrefix(what, "socket:") {
			n++
		}
	}
	return n
}

// mesh is several nodes' data planes on one loopback network, with one CA and one truth about the cluster.
type mesh struct {
	t     testing.TB
	net   *socketstest.Network
	ca    *certtest.CA
	nodes []*node
	known state.Update // workloads, services and policies so far
}

// node is one node's data plane.
type node struct {
	m      *mesh
	name   string
	store  *state.Store
	certs  *cert.Store
	dp     *dataplane
	log    *lines
	reg    *prometheus.Registry
	ended  chan struct{} // of the data plane
	cancel context.CancelFunc
}

func newMesh(t testing.TB) *mesh {
	return &mesh{t: t, net: socketstest.New(t), ca: certtest.New(t)}
}

// node adds a node whose store has everything that is known; change may alter its parts.
func (m *mesh) node(name string, change func(*parts)) *node {
	m.t.Helper()
	n := m.unsynced(name, change)
	n.store.Apply(&m.known, &state.Update{Synced: state.TypesAll})
	return n
}

// unsynced adds a node that knows nothing yet.
func (m *mesh) unsynced(name string, change func(*parts)) *node {
	m.t.Helper()
	return m.newNode(state.Config{Node: name}, change)
}

// inRanges adds a node that knows the range of the mesh's addresses.
func (m *mesh) inRanges(name string, r netip.Prefix, change func(*parts)) *node {
	m.t.Helper()
	n := m.newNode(state.Config{Node: name, Ranges: []netip.Prefix{r}}, change)
	n.store.Apply(&m.known, &state.Update{Synced: state.TypesAll})
	return n
}

func (m *mesh) newNode(cfg state.Config, change func(*parts)) *node {
	m.t.Helper()
	n := &node{
		m: m, name: cfg.Node, store: state.NewStore(cfg), log: newLines(), reg: prometheus.NewRegistry(),
		ended: make(chan struct{}),
	}
	var err error
	log := slog.New(slog.DiscardHandler)
	if os.Getenv("AMBIT_TEST_LOG") != "" {
		log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	n.certs, err = cert.New(cert.Config{Signer: m.ca, Log: log, OnRotate: func(c *cert.Certificate) { n.dp.outbound.Rotated(c.ID) }})
	if err != nil {
		m.t.Fatal(err)
	}
	access := telemetry.NewLog(telemetry.LogConfig{Out: n.log, JSON: true})
	tel, err := telemetry.New(telemetry.Config{Registerer: n.reg, Log: access})
	if err != nil {
		m.t.Fatal(err)
	}
	p := parts{
		store: n.store, dialer: m.net.Dialer(), certs: n.certs, telemetry: tel, log: log, metrics: n.reg,
		release: func(pod *sockets.Pod) {},
	}
	if change != nil {
		change(&p)
	}
	n.dp = newDataplane(p)
	ctx, cancel := context.WithCancel(context.WithoutCancel(m.t.Context()))
	pods, stop := context.WithCancel(ctx)
	n.cancel = stop
	var all sync.WaitGroup
	all.Go(func() { n.certs.Run(ctx) })
	all.Go(func() { access.Run(ctx) })
	all.Go(func() { defer close(n.ended); n.dp.pods.Run(pods) })
	m.t.Cleanup(func() {
		stop()
		<-n.ended
		cancel()
		all.Wait()
	})
	m.nodes = append(m.nodes, n)
	return n
}

// apply tells every node.
func (m *mesh) apply(u *state.Update) {
	m.known.Workloads = append(m.known.Workloads, u.Workloads...)
	m.known.Services = append(m.known.Services, u.Services...)
	m.known.Policies = append(m.known.Policies, u.Policies...)
	for _, n := range m.nodes {
		n.store.Apply(u)
	}
}

// workload is what the control plane says of a pod on a node.
func workload(n string, p *sockets.Pod) *state.Workload {
	return &state.Workload{
		UID: "cluster//Pod/" + p.Namespace + "/" + p.Name, Name: p.Name, Addresses: p.Addresses, Capacity: 1,
		Profile: &state.Profile{
			Namespace: p.Namespace, TrustDomain: "cluster.local", ServiceAccount: p.ServiceAccount, ClusterID: "c1",
			Controller: p.ServiceAccount, CanonicalName: p.ServiceAccount, CanonicalRevision: "v1", Tunnel: state.TunnelHBONE,
		},
		Place: &state.Place{Node: n},
	}
}

// pod adds an enrolled pod to a node and tells everybody of it; change may alter its record.
func (n *node) pod(namespace, name string, change func(*state.Workload)) *socketstest.Pod {
	n.m.t.Helper()
	p := n.m.net.AddPod(namespace, name, name)
	w := workload(n.name, p.Pod)
	if change != nil {
		change(w)
	}
	n.m.apply(&state.Update{Workloads: []*state.Workload{w}})
	if err := n.dp.pods.Add(p.Pod, p.Listeners); err != nil {
		n.m.t.Fatal(err)
	}
	return p
}

// at is a port of a pod.
func at(p *socketstest.Pod, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(p.Addresses[0], port)
}

// app runs an application; serve owns its connections and returns when it is done with one.
func (m *mesh) app(addr netip.Addr, serve func(*net.TCPConn)) netip.AddrPort {
	m.t.Helper()
	l, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(netip.AddrPortFrom(addr, 0)))
	if err != nil {
		m.t.Fatal(err)
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	open := map[*net.TCPConn]bool{}
	all.Go(func() {
		for {
			c, err := l.AcceptTCP()
			if err != nil {
				return
			}
			mu.Lock()
			open[c] = true
			mu.Unlock()
			all.Go(func() {
				serve(c)
				c.Close()
				mu.Lock()
				delete(open, c)
				mu.Unlock()
			})
		}
	})
	m.t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for c := range open {
			c.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// echo says hello with the client's address, so that the test sees what the application sees, and then repeats everything.
func echo(c *net.TCPConn) {
	fmt.Fprintf(c, "hello %s\n", c.RemoteAddr().(*net.TCPAddr).IP)
	_, _ = io.Copy(c, c)
	c.CloseWrite()
}

// dial is an application in p that connects.
func (m *mesh) dial(p *socketstest.Pod, dst netip.AddrPort) *net.TCPConn {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), patience)
	defer cancel()
	c, err := m.net.Connect(ctx, p, dst)
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c
}

// greet reads the hello of an echo application, and answers whom it greeted.
func greet(t testing.TB, c *net.TCPConn) string {
	t.Helper()
	var name []byte
	for b := make([]byte, 1); ; {
		if _, err := io.ReadFull(c, b); err != nil {
			t.Fatalf("no hello: %v", err)
		}
		if b[0] == '\n' {
			return string(bytes.TrimPrefix(name, []byte("hello ")))
		}
		name = append(name, b[0])
	}
}

// exchange sees that a connection to an echo application lives.
func exchange(t testing.TB, c *net.TCPConn, text string) {
	t.Helper()
	if _, err := c.Write([]byte(text)); err != nil {
		t.Fatalf("write: %v", err)
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != text {
		t.Fatalf("echo of %q: %q, %v", text, got, err)
	}
}

// lines collects access log lines.
type lines struct {
	mu   sync.Mutex
	all  []line
	more chan struct{}
}

type line map[string]any

func newLines() *lines { return &lines{more: make(chan struct{})} }

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, text := range bytes.Split(bytes.TrimSpace(p), []byte("\n")) {
		var one line
		if err := json.Unmarshal(text, &one); err != nil {
			return 0, err
		}
		l.all = append(l.all, one)
	}
	close(l.more)
	l.more = make(chan struct{})
	return len(p), nil
}

// wait waits for a line that has all of want.
func (l *lines) wait(t testing.TB, want line) line {
	t.Helper()
	deadline := time.After(patience)
	for {
		l.mu.Lock()
		more := l.more
		for _, one := range l.all {
			if one.has(want) {
				l.mu.Unlock()
				return one
			}
		}
		all := fmt.Sprint(l.all)
		l.mu.Unlock()
		select {
		case <-more:
		case <-deadline:
			t.Fatalf("no log line with %v in:\n%s", want, all)
		}
	}
}

func (l line) has(want line) bool {
	for k, v := range want {
		if fmt.Sprint(l[k]) != fmt.Sprint(v) {
			return false
		}
	}
	return true
}

func pemOf(der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}) }
