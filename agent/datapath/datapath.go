// Package datapath puts the kernel programs of package bpf to work: it loads, pins and attaches them, writes their maps and
// tags sockets. It answers "is this pod captured?" and "what has the kernel done?". It does not decide which pods are enrolled
// (agent/enroll), open sockets (agent/sockets) or configure network namespaces (agent/podnet). Only package agent and its
// parts call it; it alone imports package bpf.
//
// Everything is pinned, so capture goes on without this process: Load adopts what an earlier one left, or replaces it in place
// by the programs of this build. Several agents may share one kernel and one cgroup root, each with a pin directory of its own.
//
//	<PinDir>/v<ABI>/maps/<map>             the one map set of this agent
//	<PinDir>/v<ABI>/links/<program>        links to the cgroup root
//	<PinDir>/v<ABI>/pods/<cookie>/lookup   link to the pod's network namespace
//	<PinDir>/v<ABI>/pods/<cookie>/egress-<ifindex>
//
// A Datapath may be used by many goroutines at once; Close or Remove comes after the last other use.
package datapath

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ambit-mesh/ambit/agent/datapath/plan"
)

// ABI is the version of the maps' layout (AMBIT_ABI of bpf/lib/abi.h); pins of another version cannot be adopted.
const ABI = 1

// Config is what Load needs. Zero limits stand for the defaults.
type Config struct {
	PinDir     string // this agent's own directory on a bpffs, such as /sys/fs/bpf/ambit; made if absent
	CgroupRoot string // the cgroup2 root, or a folder with its mount below; empty: the first one mounted
	ProcDir    string // the host's /proc; empty: /proc
	Log        *slog.Logger

	MaxPods       uint32 // enrolled at once; default 4096
	MaxHandshakes uint32 // connections of all pods between connect and accept; default 32768. Beyond it connect fails (EPERM)
	MaxProbePorts uint32 // of all pods; default 16384
	DNSPorts      uint32 // UDP ports from 15053 on that each pod's resolver listens on, 1 to 4; default 1. See bpf/README.md

	// Kernel features to do without although the kernel has them, for tests of older kernels' ways.
	Without []string
}

func (c *Config) defaults() error {
	set := func(v *uint32, d uint32) {
		if *v == 0 {
			*v = d
		}
	}
	set(&c.MaxPods, 4096)
	set(&c.MaxHandshakes, 32768)
	set(&c.MaxProbePorts, 16384)
	set(&c.DNSPorts, 1)
	if c.DNSPorts > plan.MaxNameservers {
		return fmt.Errorf("%d DNS ports: 1 to %d are possible", c.DNSPorts, plan.MaxNameservers)
	}
	if c.PinDir == "" {
		return errors.New("no pin directory")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	root, how, err := findCgroup2(c.CgroupRoot, cmp.Or(c.ProcDir, "/proc"))
	if err != nil {
		return err
	}
	c.Log.Info("cgroup2 root chosen", "path", root, "how", how)
	c.CgroupRoot = root
	return nil
}

// Datapath is the loaded datapath of one agent.
type Datapath struct {
	cfg      Config
	features Features
	obj      *objects
	version  string // directory of this ABI's pins

	mu      sync.Mutex
	entries plan.Entries // what the pod maps hold; guarded by mu

	swept      atomic.Uint64
	handshakes atomic.Int64
}

// Load loads the programs of this build, adopts or makes the pinned maps, and attaches to the cgroup root, replacing the
// programs of an earlier agent in place. Pods that were enrolled stay so; Enrolled lists them. A kernel that lacks something
// required is an error that names it; what is optional is in Features.
func Load(cfg Config) (_ *Datapath, err error) {
	if err := cfg.defaults(); err != nil {
		return nil, fmt.Errorf("datapath configuration: %w", err)
	}
	if err := checkBpffs(cfg.PinDir); err != nil {
		return nil, err
	}
	features, err := Probe(cfg.Without...)
	if err != nil {
		return nil, err
	}
	d := &Datapath{cfg: cfg, features: features, version: filepath.Join(cfg.PinDir, "v"+strconv.Itoa(ABI))}
	for _, dir := range []string{d.mapsDir(), d.linksDir(), d.podsDir()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("pin directory: %w", err)
		}
	}
	d.obj, err = loadObjects(cfg, features, d.mapsDir())
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			d.Close()
		}
	}()
	if err := d.attachHooks(); err != nil {
		return nil, err
	}
	if d.entries, err = d.readEntries(); err != nil {
		return nil, err
	}
	if err := d.adoptPods(); err != nil {
		return nil, err
	}
	return d, d.removeOtherVersions()
}

// Features says what this kernel can do.
func (d *Datapath) Features() Features { return d.features }

// CgroupRoot is where the hooks are: the root of the cgroup2 hierarchy.
func (d *Datapath) CgroupRoot() string { return d.cfg.CgroupRoot }

// Close lets go of the datapath and leaves it working. Remove ends it.
func (d *Datapath) Close() error {
	if d.obj == nil {
		return nil
	}
	return d.obj.Close()
}

// Run sweeps what is left of handshakes that nobody finished, every half minute, until ctx ends.
func (d *Datapath) Run(ctx context.Context) error {
	tick := time.NewTicker(30 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			n, err := d.Sweep()
			if err != nil {
				d.cfg.Log.Error("handshake sweep stopped early", "err", err)
			}
			if n > 0 {
				d.cfg.Log.Warn("handshakes were never finished", "count", n)
			}
		}
	}
}

func (d *Datapath) mapsDir() string  { return filepath.Join(d.version, "maps") }
func (d *Datapath) linksDir() string { return filepath.Join(d.version, "links") }
func (d *Datapath) podsDir() string  { return filepath.Join(d.version, "pods") }
func (d *Datapath) podDir(cookie uint64) string {
	return filepath.Join(d.podsDir(), strconv.FormatUint(cookie, 10))
}

// checkBpffs finds the nearest directory of path that exists and refuses it if it is on another file system.
func checkBpffs(path string) error {
	for dir := path; ; dir = filepath.Dir(dir) {
		var st unix.Statfs_t
		err := unix.Statfs(dir, &st)
		if errors.Is(err, unix.ENOENT) && dir != filepath.Dir(dir) {
			continue
		}
		if err != nil {
			return fmt.Errorf("pin directory %s: %w", dir, err)
		}
		if uint32(st.Type) != unix.BPF_FS_MAGIC {
			return fmt.Errorf("pin directory %s is not on a bpffs; mount one with: mount -t bpf bpf /sys/fs/bpf", path)
		}
		return nil
	}
}

// isGone reports whether an error says that what a link was attached to no longer exists.
func isGone(err error) bool {
	return errors.Is(err, unix.ENOLINK) || errors.Is(err, unix.ENODEV)
}
