// Package netlab answers: how do I get a small cluster on one Linux machine, with no Kubernetes? It builds nodes and pods out
// of network namespaces, joins the nodes by a wire that can be captured on, attaches pods through a real CNI chain, runs
// programs in them, and keeps the folder of Kubernetes manifests that says all of this to the mesh. It knows nothing of the
// mesh itself (package mesh, below, starts that) and judges nothing.
//
// Everything a lab makes is its own: namespaces, cgroups, a bpffs, one folder under /run/ambit/lab. Of the machine it
// touches only what cannot be avoided: names in /run/netns, one cgroup below the cgroup2 root, one mount below its folder.
// The intent to make a thing is written to the lab's state file first, so that Down finds and removes everything, also after
// the lab's own process was killed, and Leftovers proves it.
//
// The demo, the CLI, layer-5 tests and benchmarks call it. Several processes may use one lab at the same time (the state is
// in a file under a lock), several labs may exist at once; a Lab may be used by many goroutines.
package netlab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"time"
)

// Root is the folder below which each lab has a folder of its own.
const Root = "/run/ambit/lab"

// Config says what lab to build.
type Config struct {
	// Name is unique on the machine: a lower-case letter, then up to 11 letters or digits.
	Name string
	// Nodes are the nodes' names; default n1 and n2.
	Nodes []string
	// BinDir holds our own programs (labprog and the mesh's), CNIDir the CNI plugins ptp and host-local.
	BinDir, CNIDir string
	// Records are names outside the cluster that the cluster's DNS answers, "name=ip".
	Records []string
}

// Lab is a lab that exists. Get one from Up or Open.
type Lab struct {
	name string
	dir  string
	// reapers counts the goroutines that wait for programs this process started.
	reapers sync.WaitGroup
}

var nameShape = regexp.MustCompile(`^[a-z][a-z0-9]{0,11}$`)

// Up builds a lab: wire, nodes, the cluster's DNS and one kubelet per node. What a failed Up made is taken down again.
func Up(ctx context.Context, c Config) (lab *Lab, err error) {
	if len(c.Nodes) == 0 {
		c.Nodes = []string{"n1", "n2"}
	}
	for _, name := range append([]string{c.Name}, c.Nodes...) {
		if !nameShape.MatchString(name) {
			return nil, fmt.Errorf("%q is no name for a lab or a node: use a lower-case letter and up to 11 letters or digits", name)
		}
	}
	if err := Preflight(c); err != nil {
		return nil, err
	}
	l := &Lab{name: c.Name, dir: filepath.Join(Root, c.Name)}
	if err := l.create(c); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			// The caller's context may be what ended Up; taking down must happen all the same.
			err = errors.Join(err, l.Down(context.WithoutCancel(ctx)))
		}
	}()
	if err := l.makeWire(); err != nil {
		return nil, err
	}
	for i := range c.Nodes {
		if err := l.makeNode(i); err != nil {
			return nil, fmt.Errorf("node %s: %w", c.Nodes[i], err)
		}
	}
	if err := l.startInfra(ctx, c); err != nil {
		return nil, err
	}
	return l, nil
}

// create makes the lab's folder, its first state, its bpffs and its cgroup.
func (l *Lab) create(c Config) error {
	if err := os.MkdirAll(Root, 0o755); err != nil {
		return fmt.Errorf("lab folder: %w", err)
	}
	if err := os.Mkdir(l.dir, 0o755); err != nil {
		if errors.Is(err, os.ErrExist) {
			return fmt.Errorf("a lab named %s exists already: use it, or remove it with `ambit lab down --name %s`", l.name, l.name)
		}
		return fmt.Errorf("lab folder: %w", err)
	}
	first := state{Name: l.name, Created: time.Now(), BinDir: c.BinDir, CNIDir: c.CNIDir}
	for i, name := range c.Nodes {
		first.Nodes = append(first.Nodes, planNode(i, name))
	}
	if err := l.save(first); err != nil {
		return err
	}
	for _, dir := range []string{l.Manifests(), filepath.Join(l.Manifests(), "status", "pods"), l.logs(), l.BPF()} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return errors.Join(err, l.Down(context.Background()))
		}
	}
	if err := errors.Join(mountBPF(l.BPF()), makeCgroup(l.cgroup())); err != nil {
		return errors.Join(err, l.Down(context.Background()))
	}
	return nil
}

// Find is Open for Down: a lab of which little is left, or nothing, is found too.
func Find(name string) (*Lab, error) {
	if !nameShape.MatchString(name) {
		return nil, fmt.Errorf("%q is no name for a lab", name)
	}
	return &Lab{name: name, dir: filepath.Join(Root, name)}, nil
}

// Open finds a lab that was built before, perhaps by another process.
func Open(name string) (*Lab, error) {
	l, err := Find(name)
	if err != nil {
		return nil, err
	}
	if _, err := l.load(); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("there is no lab named %s: build one with `ambit lab up --name %s`", name, name)
		}
		return nil, err
	}
	return l, nil
}

// Names lists the labs on this machine.
func Names() ([]string, error) {
	entries, err := os.ReadDir(Root)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// Name is the lab's name.
func (l *Lab) Name() string { return l.name }

// Dir is the lab's folder, gone after Down.
func (l *Lab) Dir() string { return l.dir }

// Manifests is the folder of Kubernetes manifests, the lab's stand-in for an API server.
func (l *Lab) Manifests() string { return filepath.Join(l.dir, "manifests") }

// BPF is the lab's own bpffs, unmounted by Down.
func (l *Lab) BPF() string { return filepath.Join(l.dir, "bpf") }

// NodeDir is a folder for one node's files, for instance its CNI configuration in net.d.
func (l *Lab) NodeDir(node string) string { return filepath.Join(l.dir, "nodes", node) }

func (l *Lab) logs() string { return filepath.Join(l.dir, "logs") }
