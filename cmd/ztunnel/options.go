package main

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/pflag"
)

// options are the flags as they were given. Their JSON form is what the admin port shows; no secret is among them, only the
// files that hold some.
type options struct {
	Node          string `json:"nodeName"`
	Network       string `json:"network"`
	ClusterID     string `json:"clusterId"`
	ClusterDomain string `json:"clusterDomain"`
	Pod           string `json:"podName"`
	Namespace     string `json:"podNamespace"`
	IP            string `json:"instanceIp"`

	Handoff    string        `json:"handoff"`
	XDS        string        `json:"xdsAddress"`
	CA         string        `json:"caAddress"`
	XDSRoot    string        `json:"xdsRootCa"`
	CARoot     string        `json:"caRootCa"`
	AltXDS     string        `json:"altXdsHostname"`
	AltCA      string        `json:"altCaHostname"`
	Token      string        `json:"authToken"`
	SecretTTL  time.Duration `json:"secretTtl"`
	MeshRanges []string      `json:"meshRanges"`
	DNSServers []string      `json:"dnsServers"`

	Admin   []string `json:"adminAddr"`
	Metrics []string `json:"statsAddr"`
	Ready   []string `json:"readinessAddr"`

	LogFormat string `json:"logFormat"`
	LogLevel  string `json:"logLevel"`
	AccessLog bool   `json:"accessLog"`

	DrainTimeout        time.Duration `json:"selfTerminationDeadline"`
	Connections         int           `json:"maxConnectionsPerPod"`
	Handshakes          int           `json:"maxHandshakesPerPod"`
	RequireUnprivileged bool          `json:"requireUnprivileged"`

	unread error // what in the environment cannot be read
}

// Defaults where the environment says nothing.
const (
	defaultAddress = "ambit-controller.ambit-system.svc:15012"
	defaultRoot    = "./var/run/secrets/istio/root-cert.pem"
	defaultToken   = "./var/run/secrets/tokens/istio-token"
	defaultHandoff = "/run/ambit/handoff/handoff.sock"
)

// defaults are the options before any flag: the environment, and what is built in.
func defaults(getenv func(string) string) *options {
	env := func(fallback string, names ...string) string {
		for _, n := range names {
			if v := getenv(n); v != "" {
				return v
			}
		}
		return fallback
	}
	return &options{
		Node: env("", "NODE_NAME"), Network: env("", "NETWORK"), ClusterID: env("Kubernetes", "ISTIO_META_CLUSTER_ID", "CLUSTER_ID"),
		ClusterDomain: env("cluster.local", "CLUSTER_DOMAIN"), Pod: env("", "POD_NAME"), Namespace: env("", "POD_NAMESPACE"),
		IP: env("", "INSTANCE_IP"), Handoff: env(defaultHandoff, "AMBIT_HANDOFF"),
		XDS: env(defaultAddress, "XDS_ADDRESS"), XDSRoot: env(defaultRoot, "XDS_ROOT_CA"),
		CA: env("", "CA_ADDRESS"), CARoot: env("", "CA_ROOT_CA"),
		AltXDS: env("", "ALT_XDS_HOSTNAME"), AltCA: env("", "ALT_CA_HOSTNAME"), Token: env(defaultToken, "AUTH_TOKEN"),
		SecretTTL: duration(env("", "SECRET_TTL"), 24*time.Hour),
		Admin:     []string{"127.0.0.1:15000", "[::1]:15000"}, Metrics: []string{":15020"}, Ready: []string{":15021"},
		LogFormat: env("plain", "LOG_FORMAT"), LogLevel: env("info", "AMBIT_LOG_LEVEL"), AccessLog: true,
		DrainTimeout: drainTimeout(getenv("CONNECTION_TERMINATION_DEADLINE"), getenv("TERMINATION_GRACE_PERIOD_SECONDS")),
		Connections:  50_000, Handshakes: 1024, RequireUnprivileged: true,
		unread: errors.Join(
			readable(getenv, "SECRET_TTL", ""), readable(getenv, "CONNECTION_TERMINATION_DEADLINE", ""), readable(getenv, "TERMINATION_GRACE_PERIOD_SECONDS", "s"),
		),
	}
}

// register makes the options flags.
func (o *options) register(f *pflag.FlagSet) {
	f.SortFlags = false
	text := func(v *string, name, env, usage string) {
		if env != "" {
			usage += " [" + env + "]"
		}
		f.StringVar(v, name, *v, usage)
	}
	text(&o.Node, "node", "NODE_NAME", "name of this node; empty counts every workload as local")
	text(&o.Network, "network", "NETWORK", "network of this node")
	text(&o.ClusterID, "cluster-id", "ISTIO_META_CLUSTER_ID, CLUSTER_ID", "cluster of this node")
	text(&o.ClusterDomain, "cluster-domain", "CLUSTER_DOMAIN", "what the names of Services end in")
	text(&o.Pod, "pod", "POD_NAME", "the ztunnel's own pod")
	text(&o.Namespace, "namespace", "POD_NAMESPACE", "the ztunnel's own namespace")
	text(&o.IP, "ip", "INSTANCE_IP", "the ztunnel's own address")
	text(&o.Handoff, "handoff", "AMBIT_HANDOFF", "the node agent's socket")
	text(&o.XDS, "xds-address", "XDS_ADDRESS", "control plane, host:port")
	text(&o.CA, "ca-address", "CA_ADDRESS", "certificate authority, host:port; as --xds-address unless set")
	text(&o.XDSRoot, "xds-root-ca", "XDS_ROOT_CA", "file with the roots of the control plane's certificate")
	text(&o.CARoot, "ca-root-ca", "CA_ROOT_CA", "file with the roots of the CA's certificate; as --xds-root-ca unless set")
	text(&o.AltXDS, "alt-xds-hostname", "ALT_XDS_HOSTNAME", "a further name that the control plane's certificate may carry")
	text(&o.AltCA, "alt-ca-hostname", "ALT_CA_HOSTNAME", "a further name that the CA's certificate may carry")
	text(&o.Token, "auth-token", "AUTH_TOKEN", "file with the token to authenticate with; read for each call")
	f.DurationVar(&o.SecretTTL, "secret-ttl", o.SecretTTL, "validity of workload certificates to ask for [SECRET_TTL]")
	f.StringSliceVar(&o.MeshRanges, "mesh-ranges", nil, "ranges from which pods and Services get addresses; unknown ones in them are waited for")
	f.StringSliceVar(&o.DNSServers, "dns-servers", nil, "nameservers for pods whose own are not known; of /etc/resolv.conf unless set")
	f.StringSliceVar(&o.Admin, "admin-address", o.Admin, "where the admin port listens")
	f.StringSliceVar(&o.Metrics, "metrics-address", o.Metrics, "where metrics are served")
	f.StringSliceVar(&o.Ready, "ready-address", o.Ready, "where readiness is served")
	text(&o.LogFormat, "log-format", "LOG_FORMAT", "plain or json")
	text(&o.LogLevel, "log-level", "AMBIT_LOG_LEVEL", "debug, info, warn or error")
	f.BoolVar(&o.AccessLog, "access-log", o.AccessLog, "write a line for each connection")
	f.DurationVar(&o.DrainTimeout, "drain-timeout", o.DrainTimeout,
		"how long connections may take to finish [CONNECTION_TERMINATION_DEADLINE; or TERMINATION_GRACE_PERIOD_SECONDS less 5 s]")
	f.IntVar(&o.Connections, "max-connections-per-pod", o.Connections, "connections and streams of one pod at a time")
	f.IntVar(&o.Handshakes, "max-handshakes-per-pod", o.Handshakes, "TLS handshakes of one pod at a time; the oldest makes room for the newest")
	f.BoolVar(&o.RequireUnprivileged, "require-unprivileged", o.RequireUnprivileged, "refuse to run as root or with capabilities")
}

// readable is nil if a variable is not set, or is a duration once its unit is added.
func readable(getenv func(string) string, name, unit string) error {
	text := getenv(name)
	if text == "" {
		return nil
	}
	if d, err := time.ParseDuration(text + unit); err != nil || d < 0 {
		return fmt.Errorf("environment %s: %q is not a time", name, text)
	}
	return nil
}

// duration reads a duration of the environment; what is not one counts as not said, and readable reports it.
func duration(text string, fallback time.Duration) time.Duration {
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return fallback
	}
	return d
}

// drainTimeout is Istio's rule: an explicit deadline, else a little less than the pod's grace period, else 5 s.
func drainTimeout(explicit, grace string) time.Duration {
	if d := duration(explicit, 0); d > 0 {
		return d
	}
	seconds := duration(cmp.Or(grace, "0")+"s", 0)
	switch {
	case seconds == 0:
		return 5 * time.Second
	case seconds > 10*time.Second:
		return seconds - 5*time.Second
	default:
		return max(seconds-time.Second, time.Second)
	}
}
