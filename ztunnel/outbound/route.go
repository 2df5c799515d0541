package outbound

import (
	"context"
	"time"

	"github.com/ambit-mesh/ambit/ztunnel/route"
	"github.com/ambit-mesh/ambit/ztunnel/state"
)

// route answers where the connection goes. While that cannot be told it is held: until the next snapshot, and no longer than
// the reason for it allows.
func (o *Outbound) route(ctx context.Context, c *conn) (route.Plan, error) {
	plan, snap := o.resolve(c, nil)
	if plan.Kind == route.Hold {
		plan = o.hold(ctx, c, plan, snap)
	}
	if plan.Kind == route.Refuse || plan.Kind == route.Hold {
		return plan, refusedError{plan.Reason}
	}
	return plan, nil
}

// refusedError is a connection for which there is no way.
type refusedError struct{ reason route.Reason }

func (e refusedError) Error() string { return "refused: " + e.reason.String() }

// resolve asks once, by the snapshot of now.
func (o *Outbound) resolve(c *conn, avoid []string) (route.Plan, *state.Snapshot) {
	snap := o.cfg.Store.Load()
	flow := route.Flow{Client: c.client, Destination: c.dest, Avoid: avoid}
	if w := c.pod.Workload(snap); w != nil {
		flow.Source = w.UID
	}
	return route.Resolve(snap, flow, o.cfg.Pick), snap
}

// hold waits for a snapshot that tells more than "hold".
func (o *Outbound) hold(ctx context.Context, c *conn, plan route.Plan, snap *state.Snapshot) route.Plan {
	o.metrics.held.WithLabelValues(plan.Reason.String()).Inc()
	limit := o.cfg.HoldLimit
	timer := time.NewTimer(limit)
	defer timer.Stop()
	asked := false
	for {
		if plan.Reason == route.AddressUnknown && !asked {
			asked = true
			timer.Reset(o.cfg.AskLimit)
			if o.cfg.Ask != nil {
				o.cfg.Ask(c.dest.Addr())
			}
		}
		select {
		case <-snap.Replaced():
		case <-timer.C:
			return o.stopWaiting(c, plan)
		case <-ctx.Done():
			return plan
		}
		if plan, snap = o.resolve(c, nil); plan.Kind != route.Hold {
			return plan
		}
	}
}

// stopWaiting decides for a connection that has waited long enough. What the mesh does not know is not its own: an unknown
// address is connected to as it is. Everything else stays closed.
func (o *Outbound) stopWaiting(c *conn, plan route.Plan) route.Plan {
	if plan.Reason == route.AddressUnknown {
		o.metrics.unknown.Inc()
		plan.Kind, plan.Dial, plan.Target = route.Direct, c.dest, c.dest
	}
	return plan
}
