package outbound

import (
	"errors"

	"github.com/ambit-mesh/ambit/controller/api/spiffe"
	"github.com/ambit-mesh/ambit/ztunnel/hbone"
	"github.com/ambit-mesh/ambit/ztunnel/outcome"
	"github.com/ambit-mesh/ambit/ztunnel/passthrough"
	"github.com/ambit-mesh/ambit/ztunnel/route"
	"github.com/ambit-mesh/ambit/ztunnel/sockets"
	"github.com/ambit-mesh/ambit/ztunnel/telemetry"
)

// record opens the connection's record: who, to whom, by which plan.
func (o *Outbound) record(c *conn, plan *route.Plan) {
	c.mu.Lock()
	c.kind, c.reason, c.dial, c.version = plan.Kind, plan.Reason, plan.Dial, plan.Version
	c.mu.Unlock()
	c.record = o.cfg.Telemetry.Open(flow(c, plan))
}

func flow(c *conn, plan *route.Plan) *telemetry.Flow {
	f := &telemetry.Flow{
		Reporter: telemetry.Source, Source: telemetry.WorkloadEnd(plan.Source), Destination: telemetry.WorkloadEnd(plan.Destination),
		Service: telemetry.ServiceOf(plan.Service), Secure: plan.Tunnelled(),
		Start: c.start, Meter: c, Client: c.client, Dial: plan.Dial, Authority: plan.Authority, SourcePod: c.pod.Name, Plan: plan.Kind.String(),
	}
	if !f.Secure {
		f.Source.Principal, f.Destination.Principal = spiffe.ID{}, spiffe.ID{}
	}
	if !f.Dial.IsValid() {
		f.Dial = c.dest
	}
	if plan.Destination != nil {
		f.DestinationPod = plan.Destination.Name
	}
	return f
}

// reject resets and records a connection of which nothing is known.
func (o *Outbound) reject(c *conn, why string, err error) {
	passthrough.Reset(c.app)
	o.cfg.Telemetry.Reject(&telemetry.Flow{Reporter: telemetry.Source, Client: c.client, Dial: c.dest, SourcePod: c.pod.Name}, why, err)
}

// fail resets and records a connection that could not be established: the application sees a reset, not an end of file.
func (o *Outbound) fail(c *conn, plan *route.Plan, err error) {
	passthrough.Reset(c.app)
	end := telemetry.Outcome{
		Flag: flagOf(err), Err: err, Unserved: true, Reason: plan.Reason.String(), Snapshot: plan.Version, Close: "not connected",
	}
	var refused refusedError
	if errors.As(err, &refused) {
		end.Refused = true
	}
	var cut outcome.Cut
	if errors.As(err, &cut) {
		end.Close = cut.Why.String()
	}
	c.record.Close(end)
}

// flagOf classifies a failure as Istio's metrics do (ztunnel.md 10.1).
func flagOf(err error) telemetry.Flag {
	var (
		socket   *sockets.Error
		identity identityError
		shake    tlsError
		status   *hbone.StatusError
		refused  refusedError
		cut      outcome.Cut
	)
	switch {
	case errors.As(err, &socket):
		if socket.Timeout() && socket.Dst.Port() == route.HBONEPort {
			return telemetry.FlagNetworkPolicy
		}
		return telemetry.FlagConnect
	case errors.As(err, &identity):
		return telemetry.FlagIdentity
	case errors.As(err, &shake):
		return telemetry.FlagTLS
	case errors.As(err, &status), errors.As(err, &refused), errors.As(err, &cut):
		return telemetry.FlagConnect
	case errors.Is(err, hbone.ErrConnLost), errors.Is(err, hbone.ErrTimeout), errors.Is(err, hbone.ErrNotProcessed), errors.Is(err, hbone.ErrLimit):
		return telemetry.FlagHTTP2
	}
	return telemetry.FlagConnect
}
