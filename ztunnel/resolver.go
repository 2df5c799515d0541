package ztunnel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	mdns "github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"github.com/ambit-mesh/ambit/ztunnel/dns"
	"github.com/ambit-mesh/ambit/ztunnel/inpod"
	"github.com/ambit-mesh/ambit/ztunnel/sockets"
	"github.com/ambit-mesh/ambit/ztunnel/state"
)

// resolver serves the pods' DNS queries.
type resolver struct {
	store   *state.Store
	dialer  sockets.Dialer
	domain  string
	servers []netip.AddrPort // for pods whose own nameservers are not known
	log     *slog.Logger
	metrics dns.Metrics
}

// serve answers one pod until its sockets are closed or ctx ends.
func (r *resolver) serve(ctx context.Context, p *inpod.Pod, udp *net.UDPConn, tcp net.Listener) {
	server := dns.New(dns.Config{
		Store: r.store, Pod: p.Key, Names: dns.Names{Domain: r.domain}, NoV6: !hasIPv6(p.Addresses), Dial: r.dial(p),
		Asked: asked(p), Servers: r.nameservers(p), Pick: rand.IntN, Metrics: r.metrics, Log: r.log, Guard: p.Guard,
	})
	var all sync.WaitGroup
	run := func(what string, err error) {
		if ctx.Err() == nil { // it ends with the pod's sockets, at the latest
			r.log.Debug("dns ended", "pod", p.Pod, "socket", what, "err", err)
		}
	}
	if udp != nil {
		all.Go(func() { run("udp", server.ServeUDP(ctx, udp)) })
	}
	if tcp != nil {
		all.Go(func() { run("tcp", server.ServeTCP(ctx, tcp)) })
	}
	all.Wait()
}

// dial opens a connection to a nameserver from inside the pod.
func (r *resolver) dial(p *inpod.Pod) dns.Dial {
	return func(ctx context.Context, network string, to netip.AddrPort) (net.Conn, error) {
		if network == "udp" {
			c, err := r.dialer.DialUDP(ctx, p.UID, to)
			if errors.Is(err, unix.EPERM) && p.Has(to.Addr()) {
				return nil, fmt.Errorf("%w: %w", dns.ErrNotKnown, err)
			}
			if err != nil {
				return nil, err // not a nil *net.UDPConn in an interface
			}
			return c, nil
		}
		c, err := r.dialer.DialTCP(ctx, p.UID, to, netip.AddrPort{})
		if err != nil {
			return nil, err
		}
		return c, nil
	}
}

// nameservers are the pod's own, in its order; else those of the ztunnel.
func (r *resolver) nameservers(p *inpod.Pod) []netip.AddrPort {
	if len(p.Nameservers) == 0 {
		return r.servers
	}
	servers := make([]netip.AddrPort, 0, len(p.Nameservers))
	for _, ip := range p.Nameservers {
		servers = append(servers, netip.AddrPortFrom(ip, 53))
	}
	return servers
}

// asked tells what to dial for the nameserver that a captured question was for. Of a TCP connection the kernel program restores
// that address as the local one. Over UDP it is the client's own: a resolver's socket that connects to the client is connected
// by the kernel program to whom the client addressed, or refused with EPERM where that is not known (bpf/README.md).
func asked(p *inpod.Pod) func(client, local net.Addr) (netip.AddrPort, bool) {
	return func(client, local net.Addr) (netip.AddrPort, bool) {
		switch local := local.(type) {
		case *net.TCPAddr:
			a := unmapped(local.AddrPort())
			return a, !a.Addr().IsLoopback() && !p.Has(a.Addr())
		case *net.UDPAddr:
			from, ok := client.(*net.UDPAddr)
			if !ok {
				return netip.AddrPort{}, false
			}
			a := unmapped(from.AddrPort())
			return a, p.Has(a.Addr())
		default:
			return netip.AddrPort{}, false
		}
	}
}

func unmapped(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

func hasIPv6(addrs []netip.Addr) bool {
	for _, a := range addrs {
		if a.Is6() {
			return true
		}
	}
	return len(addrs) == 0
}

// resolvConf is the ztunnel's own.
const resolvConf = "/etc/resolv.conf"

// systemNameservers are those of a resolv.conf; a missing one is no error: then only the mesh's names are answered for pods
// whose nameservers are not known.
func systemNameservers(path string) ([]netip.AddrPort, error) {
	conf, err := mdns.ClientConfigFromFile(path)
	if err != nil {
		return nil, fmt.Errorf("nameservers: %w", err)
	}
	var servers []netip.AddrPort
	for _, s := range conf.Servers {
		if a, err := netip.ParseAddrPort(net.JoinHostPort(s, conf.Port)); err == nil {
			servers = append(servers, a)
		}
	}
	return servers, nil
}

// dnsMetrics counts questions with Istio's names.
type dnsMetrics struct {
	requests, upstream, failures *prometheus.CounterVec
	duration                     *prometheus.HistogramVec
	refused                      *prometheus.CounterVec
}

func newDNSMetrics(reg prometheus.Registerer) *dnsMetrics {
	labels := []string{"request_query_type", "request_protocol", "source_canonical_service", "source_canonical_revision"}
	counter := func(name, help string, labels []string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		reg.MustRegister(v)
		return v
	}
	m := &dnsMetrics{
		requests: counter("istio_dns_requests_total", "DNS questions of pods (unstable).", labels),
		upstream: counter("istio_dns_upstream_requests_total", "DNS questions passed on to a nameserver (unstable).", labels),
		failures: counter("istio_dns_upstream_failures_total", "DNS questions that no nameserver answered (unstable).", labels),
		refused: counter("ambit_ztunnel_dns_refused_total",
			"DNS questions that were not dealt with, by reason. Rises: a pod floods, or sends what is no DNS.", []string{"reason"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "istio_dns_upstream_request_duration_seconds", Help: "Time that nameservers took to answer (unstable).",
			Buckets: []float64{0.0005, 0.001, 0.01, 0.1, 1, 5},
		}, labels),
	}
	reg.MustRegister(m.duration)
	return m
}

// labels are bounded: types without a name, of which there are thousands, are one.
func (m *dnsMetrics) labels(q dns.Query) []string {
	name, ok := mdns.TypeToString[q.Type]
	if !ok {
		name = "other"
	}
	protocol, service, revision := "udp", "unknown", "unknown"
	if q.TCP {
		protocol = "tcp"
	}
	if q.Client != nil {
		service, revision = q.Client.CanonicalName, q.Client.CanonicalRevision
	}
	return []string{name, protocol, service, revision}
}

// Request implements dns.Metrics, as do the others.
func (m *dnsMetrics) Request(q dns.Query, _ dns.Outcome) {
	m.requests.WithLabelValues(m.labels(q)...).Inc()
}

// Forwarded counts a question that was passed on.
func (m *dnsMetrics) Forwarded(q dns.Query, took time.Duration, err error) {
	labels := m.labels(q)
	m.upstream.WithLabelValues(labels...).Inc()
	if err != nil {
		m.failures.WithLabelValues(labels...).Inc()
		return
	}
	m.duration.WithLabelValues(labels...).Observe(took.Seconds())
}

// Refused counts a question that was not dealt with.
func (m *dnsMetrics) Refused(_ dns.Query, why dns.Refusal) {
	m.refused.WithLabelValues(string(why)).Inc()
}
