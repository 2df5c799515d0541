package inbound

import (
	"github.com/ambit-mesh/ambit/ztunnel/baggage"
	"github.com/ambit-mesh/ambit/ztunnel/hbone"
	"github.com/ambit-mesh/ambit/ztunnel/passthrough"
	"github.com/ambit-mesh/ambit/ztunnel/policy"
	"github.com/ambit-mesh/ambit/ztunnel/route"
	"github.com/ambit-mesh/ambit/ztunnel/state"
	"github.com/ambit-mesh/ambit/ztunnel/telemetry"
)

// recordPlaintext opens the record of a connection without identity.
func (in *Inbound) recordPlaintext(c *conn, snap *state.Snapshot, w *state.Workload, d policy.Decision) {
	c.allowed(d)
	f := in.flow(c, w)
	f.Plan = "plaintext"
	f.Source, f.SourcePod = in.client(c, snap)
	c.record = in.cfg.Telemetry.Open(f)
}

// recordTunnel opens the record of a connection through a tunnel.
func (in *Inbound) recordTunnel(c *conn, h *hbone.Head, e *route.Entry) {
	f := in.flow(c, e.Workload)
	f.Plan, f.Secure, f.Authority = "hbone", true, h.Authority
	f.Source = baggage.End(&h.Baggage)
	snap := in.cfg.Store.Load()
	if h.Network == "" || h.Network == snap.Network() { // another network's addresses mean nothing here
		if end, pod := in.client(c, snap); pod != "" {
			f.Source, f.SourcePod = end, pod
		}
	}
	f.Source.Principal = c.peer
	f.Service = telemetry.ServiceOf(meant(snap, e, h.Forwarded.Host))
	c.record = in.cfg.Telemetry.Open(f)
}

// meant is the service that the client's ztunnel says was addressed, if the pod is part of it; else the one that its port
// belongs to.
func meant(snap *state.Snapshot, e *route.Entry, host string) *state.Service {
	if host != "" && e.Workload != nil {
		if svc := snap.ServiceNamed(host, e.Workload.Namespace); svc != nil {
			if _, part := e.Workload.Membership(svc.Key()); part {
				return svc
			}
		}
	}
	return e.Service
}

// flow is what both kinds have in common.
func (in *Inbound) flow(c *conn, w *state.Workload) *telemetry.Flow {
	return &telemetry.Flow{
		Reporter: telemetry.Destination, Destination: telemetry.WorkloadEnd(w), DestinationPod: c.pod.Name,
		Start: c.start, Meter: c, Client: c.client, Dial: c.dialled,
	}
}

// client describes the workload that has the client's address, without a principal: only TLS proves one.
func (in *Inbound) client(c *conn, snap *state.Snapshot) (telemetry.End, string) {
	w := snap.WorkloadAt(state.NetworkAddr{Network: snap.Network(), IP: c.client.Addr()})
	if w == nil {
		return telemetry.End{}, ""
	}
	end := telemetry.WorkloadEnd(w)
	end.Principal = c.peer
	return end, w.Name
}

// reject resets and records a connection of which nothing is known.
func (in *Inbound) reject(c *conn, why string, err error) {
	if c.down != nil {
		passthrough.Reset(c.down)
	}
	in.cfg.Telemetry.Reject(&telemetry.Flow{
		Reporter: telemetry.Destination, Client: c.client, Dial: c.dialled, DestinationPod: c.pod.Name,
	}, why, err)
}
