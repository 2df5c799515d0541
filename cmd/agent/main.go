// Command agent is the node agent of the mesh: flags become an agent.Config, and its Run becomes an exit code.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/ambit-mesh/ambit/agent"
	"github.com/ambit-mesh/ambit/agent/enroll"
	"github.com/ambit-mesh/ambit/agent/pods"
	"github.com/ambit-mesh/ambit/cmd/internal/logging"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command(os.Stdout, os.Stderr).ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "agent:", err)
		os.Exit(1)
	}
}

// options are the flags that are not a Config's fields.
type options struct {
	selectors string
	account   string // the ztunnel's
	log       logging.Flags
	remove    bool
	stay      bool // after uninstall
}

func command(stdout, stderr io.Writer) *cobra.Command {
	cfg := agent.Defaults()
	var o options
	run := func(do func(context.Context, agent.Config) error) func(*cobra.Command, []string) error {
		return func(cmd *cobra.Command, _ []string) error {
			if err := o.apply(&cfg, stderr); err != nil {
				return err
			}
			if o.remove {
				do = agent.Uninstall
			}
			return do(cmd.Context(), cfg)
		}
	}
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Brings the traffic of a node's pods to its ztunnel",
		Long: "Captures the traffic of the node's enrolled pods with eBPF, makes every socket that lives in a pod, and hands the sockets\n" +
			"to an unprivileged ztunnel. Stopping it (SIGTERM) changes nothing for traffic: the next agent adopts what is there.\n" +
			"`agent uninstall` takes everything away.",
		Args: cobra.NoArgs, SilenceUsage: true, SilenceErrors: true,
		RunE: run(agent.Run),
	}
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	flags(cmd, &cfg, &o)
	uninstall := &cobra.Command{
		Use:   "uninstall",
		Short: "Takes everything of this node's agent away: plugin, hooks, pins, settings, annotations; give it the agent's flags",
		Args:  cobra.NoArgs,
		RunE: run(func(ctx context.Context, cfg agent.Config) error {
			if err := agent.Uninstall(ctx, cfg); err != nil || !o.stay {
				return err
			}
			return agent.Uninstalled(ctx, cfg)
		}),
	}
	uninstall.Flags().BoolVar(&o.stay, "stay", false, "afterwards stay until SIGTERM and say at /readyz that it is done, as a DaemonSet has to")
	cmd.AddCommand(uninstall)
	return cmd
}

func flags(cmd *cobra.Command, cfg *agent.Config, o *options) {
	f := cmd.PersistentFlags()
	f.StringVar(&cfg.Node, "node", os.Getenv("NODE_NAME"), "this node's name (required; default $NODE_NAME)")
	f.StringVar(&cfg.Manifests, "manifests", "", "folder of Kubernetes manifests to find pods and namespaces in, watched; this or --kubernetes")
	f.BoolVar(&cfg.Kubernetes, "kubernetes", false, "find pods and namespaces at the API server")
	f.StringVar(&cfg.Kubeconfig, "kubeconfig", "", "how to reach the API server; empty: as the pod's own account")
	f.StringVar(&cfg.NodeTaint, "node-taint", cfg.NodeTaint, "key of the taint that is taken off this node while the agent is ready, with --kubernetes; empty: none")

	f.StringVar(&cfg.PinDir, "pin-dir", cfg.PinDir, "directory on a bpffs for this agent alone; made if absent")
	f.StringVar(&cfg.StateDir, "state-dir", cfg.StateDir, "directory for what must outlive the agent and not the machine")
	f.StringVar(&cfg.CgroupRoot, "cgroup-root", "", "the host's /sys/fs/cgroup: the root of the cgroup2 hierarchy, or a folder where that is mounted below; empty: the first one mounted")
	f.StringVar(&cfg.NetnsDir, "netns-dir", cfg.NetnsDir, "where pods' network namespaces have names")
	f.StringVar(&cfg.ProcDir, "proc-dir", cfg.ProcDir, "the host's /proc")
	f.StringVar(&cfg.SysctlDir, "sysctl-dir", cfg.SysctlDir, "where settings of pods' namespaces are written: a mount of the host's /proc/sys (net suffices), since a container's own is read-only")

	f.StringVar(&cfg.HandoffSocket, "handoff-socket", cfg.HandoffSocket, "socket that ztunnels connect to; its directory is made, for the ztunnel's uid alone")
	f.IntVar(&cfg.ZtunnelUID, "ztunnel-uid", cfg.ZtunnelUID, "uid that may connect there")
	f.StringVar(&o.account, "ztunnel-account", "", "service account (namespace/name) whose pods may connect there; empty: <system namespace>/ambit-ztunnel with --kubernetes, else any")
	f.StringVar(&cfg.ZtunnelCgroup, "ztunnel-cgroup", "", "cgroup (as in /proc/PID/cgroup) that such a process must be in, or below; empty: any")
	f.DurationVar(&cfg.Absence, "ztunnel-absence", cfg.Absence, "time without a ztunnel after which waiting connections are reset")
	f.DurationVar(&cfg.Drain, "ztunnel-drain", cfg.Drain, "time that an older ztunnel has to finish after a newer one is ready; 0: no limit")

	f.StringVar(&cfg.CNISocket, "cni-socket", cfg.CNISocket, "socket that the CNI plugin asks, root only; empty: none")
	f.DurationVar(&cfg.CNITimeout, "cni-timeout", cfg.CNITimeout, "time that a starting pod may wait for its enrolment")
	f.StringVar(&cfg.CNIConfDir, "cni-conf-dir", "", "CNI configuration folder to chain the plugin in, and keep it there; empty: not installed")
	f.StringVar(&cfg.CNIBinary, "cni-binary", "", "plugin to copy to --cni-bin-dir; empty: it is there already")
	f.StringVar(&cfg.CNIBinDir, "cni-bin-dir", cfg.CNIBinDir, "folder of the runtime's plugins")

	f.StringVar(&cfg.SystemNamespace, "system-namespace", cfg.SystemNamespace, "namespace of the ztunnels")
	f.StringSliceVar(&cfg.ExcludedNamespaces, "exclude-namespace", cfg.ExcludedNamespaces, "namespaces whose pods are never enrolled and never wait")
	f.StringVar(&o.selectors, "enablement-selector", os.Getenv("AMBIENT_ENABLEMENT_SELECTOR"),
		"YAML list of podSelector and namespaceSelector that enrol pods; empty: label istio.io/dataplane-mode=ambient (default $AMBIENT_ENABLEMENT_SELECTOR)")
	f.BoolVar(&cfg.CaptureDNS, "capture-dns", cfg.CaptureDNS, "capture DNS of enrolled pods; a pod's annotation ambient.istio.io/dns-capture has precedence")
	f.BoolVar(&cfg.StrictCapture, "strict-capture", false, "drop what leaves enrolled pods past the mesh; ambit.io/strict-capture on namespaces (label) and pods (annotation) has precedence")
	f.BoolVar(&cfg.AllowForeign, "allow-foreign-hooks", false, "enrol pods although Cilium's programs share our hooks: it is set to leave pods alone")

	f.IntVar(&cfg.KubeletPID, "kubelet-pid", 0, "process whose connections to probe ports go past the mesh")
	f.StringVar(&cfg.KubeletFile, "kubelet-pid-file", "", "file with that process's pid, read again as it changes")
	f.StringVar(&cfg.KubeletName, "kubelet-name", "", "name of that process, run by root in this network namespace")

	f.StringVar(&cfg.StatusSocket, "status-socket", cfg.StatusSocket, "root-only socket with HTTP: /status, /metrics, /debug/pprof; empty: none")
	f.StringVar(&cfg.HTTP, "http-address", cfg.HTTP, "address for /metrics, /healthz and /readyz; empty: none")
	f.StringVar(&cfg.Debug, "debug-address", "", "loopback address for /debug/pprof; empty: none")
	o.log.Register(f)
	cmd.Flags().BoolVar(&o.remove, "remove", false, "the same as the command uninstall")
}

// apply turns what needs reading into the Config.
func (o *options) apply(cfg *agent.Config, stderr io.Writer) error {
	log, err := o.log.Logger(stderr)
	if err != nil {
		return err
	}
	cfg.Log = log
	if o.account == "" && cfg.Kubernetes {
		o.account = cfg.SystemNamespace + "/ambit-ztunnel"
	}
	if o.account != "" {
		namespace, name, ok := strings.Cut(o.account, "/")
		if !ok || namespace == "" || name == "" || strings.Contains(name, "/") {
			return fmt.Errorf("ztunnel account %q: want namespace/name", o.account)
		}
		cfg.ZtunnelAccount = pods.Key{Namespace: namespace, Name: name}
	}
	if strings.TrimSpace(o.selectors) == "" {
		return nil
	}
	text, err := yaml.YAMLToJSONStrict([]byte(o.selectors))
	if err != nil {
		return fmt.Errorf("enablement selectors: %w", err)
	}
	cfg.Selectors, err = enroll.ParseSelectors(text)
	return err
}
