package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"github.com/ambit-mesh/ambit/agent/enroll"
	"github.com/ambit-mesh/ambit/agent/pods"
)

// Config is everything the agent is told. Defaults fills in what is usual.
type Config struct {
	Node string // this node's name

	// Where pods come from: exactly one of a manifest folder, and Kubernetes.
	Manifests  string
	Kubernetes bool
	Kubeconfig string // empty: the pod's own account

	NodeTaint string // key of the taint that is taken off the node while the agent is ready, with Kubernetes; empty: none

	PinDir     string // on a bpffs, this agent's own
	StateDir   string // survives the agent, not the machine
	CgroupRoot string // cgroup2, or with a mount of it below; empty: the first cgroup2 mount
	NetnsDir   string // where runtimes name pods' network namespaces
	ProcDir    string // the host's /proc
	SysctlDir  string // where pods' settings are written: a /proc/sys that is not read-only

	HandoffSocket  string // ztunnels connect here
	ZtunnelUID     int
	ZtunnelCgroup  string        // ztunnels must be in it or below; empty: any
	ZtunnelAccount pods.Key      // whose pods ztunnels must be in; empty: any
	Absence        time.Duration // without a ztunnel, before waiting connections are reset
	Drain          time.Duration // that an older ztunnel has to finish; 0: no limit

	CNISocket  string // the plugin asks here; empty: no CNI
	CNITimeout time.Duration
	CNIConfDir string // where the plugin is chained in; empty: not installed
	CNIBinary  string // copied to CNIBinDir; empty: it is there already
	CNIBinDir  string

	SystemNamespace    string
	ExcludedNamespaces []string
	Selectors          []enroll.Selector
	CaptureDNS         bool
	StrictCapture      bool

	AllowForeign bool // other programs on our hooks are known to leave pods alone

	KubeletPID  int    // who may probe past the mesh: a process,
	KubeletFile string // one whose pid is in a file,
	KubeletName string // or one of that name, run by root in this network namespace; all empty: nobody

	StatusSocket string // root only: /status, /metrics, /debug/pprof; empty: none
	HTTP         string // /metrics, /healthz, /readyz; empty: none
	Debug        string // loopback address for /debug/pprof; empty: none

	Log *slog.Logger
}

// Defaults are the values of an ordinary node.
func Defaults() Config {
	return Config{
		NodeTaint: "cni.istio.io/not-ready",
		PinDir:    "/sys/fs/bpf/ambit/node", StateDir: "/run/ambit/state", NetnsDir: "/run/netns", ProcDir: "/proc", SysctlDir: "/proc/sys",
		HandoffSocket: "/run/ambit/handoff/handoff.sock", ZtunnelUID: 1337, Absence: 60 * time.Second, Drain: time.Hour,
		CNISocket: "/run/ambit/cni.sock", CNITimeout: 25 * time.Second, CNIBinDir: "/opt/cni/bin",
		SystemNamespace: "ambit-system", ExcludedNamespaces: []string{"kube-system", "ambit-system"},
		Selectors: enroll.DefaultSelectors(), CaptureDNS: true,
		StatusSocket: "/run/ambit/status.sock", HTTP: ":15014",
	}
}

func (c *Config) check() error {
	switch {
	case c.Node == "":
		return errors.New("the node's name is not given: set --node")
	case (c.Manifests == "") != c.Kubernetes:
		return errors.New("where the pods come from is not clear: set either --manifests or --kubernetes")
	case c.PinDir == "" || c.StateDir == "" || c.HandoffSocket == "":
		return errors.New("pin directory, state directory and hand-off socket must be given")
	case c.CNIConfDir != "" && c.CNISocket == "":
		return errors.New("the CNI plugin cannot be installed without a CNI socket")
	case c.ZtunnelUID <= 0:
		return fmt.Errorf("the ztunnel's uid is %d: it must not be root", c.ZtunnelUID)
	case c.Absence <= 0 || c.Drain < 0 || c.CNITimeout <= 0:
		return errors.New("a time limit is not positive")
	}
	for _, path := range []string{c.PinDir, c.StateDir, c.HandoffSocket} {
		if !filepath.IsAbs(path) {
			return fmt.Errorf("path %q is not absolute", path)
		}
	}
	if c.Debug != "" && !strings.HasPrefix(c.Debug, "127.0.0.1:") && !strings.HasPrefix(c.Debug, "[::1]:") {
		return fmt.Errorf("debug address %q is not loopback", c.Debug)
	}
	return nil
}

// entry is what the plugin is told in the node's CNI configuration. It waits longer than the agent, so that the agent's
// reason arrives.
func (c *Config) pluginTimeout() time.Duration { return c.CNITimeout + 5*time.Second }

func (c *Config) selectorsForPeople() string {
	text, err := json.Marshal(c.Selectors)
	if err != nil {
		return err.Error()
	}
	return string(text)
}
