package ztunnel

import (
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"time"

	"github.com/ambit-mesh/ambit/controller/client"
	"github.com/ambit-mesh/ambit/ztunnel/inpod"
)

// Config is everything a ztunnel is told. cmd/ztunnel makes it of flags and the environment.
type Config struct {
	// Node is the node's name; "" counts every workload as local. Network and ClusterID are those of the node.
	Node, Network, ClusterID string
	// ClusterDomain ends the names of Services ("cluster.local").
	ClusterDomain string
	// Pod, Namespace and IP are the ztunnel's own pod.
	Pod, Namespace string
	IP             netip.Addr
	// Instance names this process among the ztunnels of the node. Empty: the pod's name and something random.
	Instance string
	// Version and Revision are the build; IstioVersion the release that it is compatible with.
	Version, Revision, IstioVersion string

	// Handoff is the node agent's socket.
	Handoff string
	// XDS and CA say where configuration and certificates come from.
	XDS, CA client.ConnConfig
	// CertTTL is the validity to ask for (24 h).
	CertTTL time.Duration
	// MeshRanges are those from which pods and Services get addresses, as far as known.
	MeshRanges []netip.Prefix
	// DNSServers answer for pods whose own nameservers are not known.
	DNSServers []netip.AddrPort

	// Admin, Metrics and Ready are addresses to listen on, each host:port. Where several are given, those whose family the
	// machine does not have are left out.
	Admin, Metrics, Ready []string

	// Log is the process's log, Level its level, which the admin port changes.
	Log   *slog.Logger
	Level *slog.LevelVar
	// AccessLog receives a line for each connection, as JSON or as text; nil for none.
	AccessLog     io.Writer
	AccessLogJSON bool

	// DrainTimeout is how long connections may take to finish after the ztunnel was told to end (25 s).
	DrainTimeout time.Duration
	// Limits are those of each pod.
	Limits inpod.Limits
	// RequireUnprivileged refuses to run as root or with any capability.
	RequireUnprivileged bool

	// Settings is what the admin port shows as the configuration, without secrets.
	Settings any
}

func (c Config) withDefaults() Config {
	if c.ClusterDomain == "" {
		c.ClusterDomain = "cluster.local"
	}
	if c.DrainTimeout == 0 {
		c.DrainTimeout = 25 * time.Second
	}
	if c.Instance == "" {
		c.Instance = c.Pod + "-" + rand.Text()[:8]
	}
	if c.CertTTL == 0 {
		c.CertTTL = 24 * time.Hour
	}
	return c
}

// nameservers fills in those of the ztunnel's own pod. There may be none: then only names of the mesh are answered for pods
// whose own nameservers are not known.
func (c *Config) nameservers() {
	if len(c.DNSServers) > 0 {
		return
	}
	var err error
	if c.DNSServers, err = systemNameservers(resolvConf); err != nil {
		c.Log.Warn("pods without known nameservers can resolve names of the mesh only", "err", err)
	}
}

func (c *Config) check() error {
	var errs []error
	need := func(ok bool, what string) {
		if !ok {
			errs = append(errs, errors.New(what))
		}
	}
	need(c.Handoff != "", "the node agent's socket is not named")
	need(c.XDS.Address != "", "the control plane's address is not named")
	need(c.CA.Address != "", "the certificate authority's address is not named")
	need(c.Log != nil && c.Level != nil, "no log")
	return errors.Join(errs...)
}
