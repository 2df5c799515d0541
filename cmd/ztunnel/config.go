package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"

	"github.com/ambit-mesh/ambit/cmd/internal/release"
	"github.com/ambit-mesh/ambit/controller/client"
	"github.com/ambit-mesh/ambit/ztunnel"
	"github.com/ambit-mesh/ambit/ztunnel/inpod"
)

// istioVersion is the release of Istio whose wire and names we keep to: that of the API definitions in go.mod.
const istioVersion = "1.31"

// config turns options into what the ztunnel is told. Both logs go to out.
func (o *options) config(environ []string, out io.Writer) (ztunnel.Config, error) {
	errs := []error{o.unread}
	fail := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	cfg := ztunnel.Config{
		Node: o.Node, Network: o.Network, ClusterID: o.ClusterID, ClusterDomain: o.ClusterDomain, Pod: o.Pod, Namespace: o.Namespace,
		Handoff: o.Handoff, CertTTL: o.SecretTTL, Admin: o.Admin, Metrics: o.Metrics, Ready: o.Ready, DrainTimeout: o.DrainTimeout,
		Limits:              inpod.Limits{Connections: o.Connections, Handshakes: o.Handshakes},
		RequireUnprivileged: o.RequireUnprivileged, Level: new(slog.LevelVar), Settings: o, IstioVersion: istioVersion,
	}
	cfg.Version, cfg.Revision = release.Version()
	var err error
	if o.IP != "" {
		cfg.IP, err = netip.ParseAddr(o.IP)
		fail(err)
	}
	cfg.XDS, err = connection(o.XDS, o.XDSRoot, o.AltXDS, o)
	fail(err)
	cfg.CA, err = connection(cmp.Or(o.CA, o.XDS), cmp.Or(o.CARoot, o.XDSRoot), o.AltCA, o)
	fail(err)
	cfg.XDS.Headers, cfg.CA.Headers = headers(environ, "XDS_HEADER_"), headers(environ, "CA_HEADER_")
	for _, text := range o.MeshRanges {
		p, err := netip.ParsePrefix(text)
		fail(err)
		cfg.MeshRanges = append(cfg.MeshRanges, p.Masked())
	}
	for _, text := range o.DNSServers {
		a, err := nameserver(text)
		fail(err)
		cfg.DNSServers = append(cfg.DNSServers, a)
	}
	if err := cfg.Level.UnmarshalText([]byte(o.LogLevel)); err != nil {
		fail(fmt.Errorf("--log-level: %w", err))
	}
	switch o.LogFormat {
	case "plain":
		cfg.Log = slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: cfg.Level}))
	case "json":
		cfg.Log, cfg.AccessLogJSON = slog.New(slog.NewJSONHandler(out, &slog.HandlerOptions{Level: cfg.Level})), true
	default:
		fail(fmt.Errorf("--log-format: %q is neither plain nor json", o.LogFormat))
	}
	if o.AccessLog {
		cfg.AccessLog = out
	}
	return cfg, errors.Join(errs...)
}

// connection says how to reach a service of the control plane.
func connection(address, root, alt string, o *options) (client.ConnConfig, error) {
	if scheme, rest, ok := strings.Cut(address, "://"); ok {
		if scheme != "https" {
			return client.ConnConfig{}, fmt.Errorf("control plane %s: only https is spoken", address)
		}
		address = strings.TrimSuffix(rest, "/")
	}
	if _, _, err := net.SplitHostPort(address); err != nil {
		return client.ConnConfig{}, fmt.Errorf("control plane: %w", err)
	}
	return client.ConnConfig{Address: address, AltName: alt, RootFile: root, TokenFile: o.Token, ClusterID: o.ClusterID}, nil
}

// headers are the environment's XDS_HEADER_name=value and the like.
func headers(environ []string, prefix string) map[string]string {
	found := map[string]string{}
	for _, e := range environ {
		if name, value, ok := strings.Cut(strings.TrimPrefix(e, prefix), "="); ok && strings.HasPrefix(e, prefix) && name != "" {
			found[strings.ToLower(name)] = value
		}
	}
	return found
}

func nameserver(text string) (netip.AddrPort, error) {
	if ip, err := netip.ParseAddr(text); err == nil {
		return netip.AddrPortFrom(ip, 53), nil
	}
	a, err := netip.ParseAddrPort(text)
	if err != nil {
		return a, fmt.Errorf("nameserver %q: neither an address nor address:port", text)
	}
	return a, nil
}
