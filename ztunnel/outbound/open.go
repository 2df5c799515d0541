package outbound

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/ambit-mesh/ambit/ztunnel/hbone"
	"github.com/ambit-mesh/ambit/ztunnel/route"
	"github.com/ambit-mesh/ambit/ztunnel/sockets"
)

// maxAttempts is how many endpoints are tried.
const maxAttempts = 2

// open connects by the plan. When that does not work and no byte was taken from the application, another endpoint of the
// same service is tried. The answer is the plan that was last tried.
func (o *Outbound) open(ctx context.Context, c *conn, plan route.Plan) (route.Plan, error) {
	var avoid []string
	for attempt := 1; ; attempt++ {
		var err error
		if plan, err = o.locate(ctx, plan, c.dest.Addr()); err == nil {
			err = o.connect(ctx, c, &plan)
		}
		if err == nil || attempt == maxAttempts || ctx.Err() != nil || plan.Destination == nil || !elsewhere(err) {
			return plan, err
		}
		avoid = append(avoid, plan.Destination.UID)
		other, _ := o.resolve(c, avoid)
		if other.Kind == route.Refuse || other.Kind == route.Hold || other.Dial == plan.Dial && other.HostName == plan.HostName {
			return plan, err // there is no other
		}
		o.metrics.retries.Inc()
		o.cfg.Log.Debug("endpoint cannot be reached, another one is tried", "pod", c.pod.Pod, "dst", plan.Dial.String(), "err", err)
		plan = other
	}
}

// elsewhere tells whether another endpoint may do better. A destination that answered, and said no, is not one of those.
func elsewhere(err error) bool {
	var status *hbone.StatusError
	if errors.As(err, &status) {
		return status.Status == hbone.StatusUnavailable
	}
	var identity identityError
	return !errors.As(err, &identity) && !errors.Is(err, sockets.ErrUnknownPod) && !errors.Is(err, sockets.ErrNoSockets)
}

// locate resolves the host name of a workload that has no address.
func (o *Outbound) locate(ctx context.Context, plan route.Plan, meant netip.Addr) (route.Plan, error) {
	if plan.HostName == "" {
		return plan, nil
	}
	o.metrics.lookups.Inc()
	if o.cfg.Resolver == nil {
		return plan, fmt.Errorf("host name %s: no resolver", plan.HostName)
	}
	ctx, cancel := context.WithTimeout(ctx, sockets.ConnectTimeout)
	defer cancel()
	found, err := o.cfg.Resolver.LookupNetIP(ctx, "ip", plan.HostName)
	if err != nil {
		return plan, fmt.Errorf("host name %s: %w", plan.HostName, err)
	}
	var same, other []netip.Addr
	for _, ip := range found {
		if ip = ip.Unmap(); ip.Is4() == meant.Is4() {
			same = append(same, ip)
		} else {
			other = append(other, ip)
		}
	}
	if len(same) == 0 {
		same = other
	}
	if len(same) == 0 {
		return plan, fmt.Errorf("host name %s: no address", plan.HostName)
	}
	return plan.At(same[o.cfg.Pick(len(same))]), nil
}

// connect makes the connection that a plan asks for.
func (o *Outbound) connect(ctx context.Context, c *conn, plan *route.Plan) error {
	if !plan.Tunnelled() {
		plain, err := o.cfg.Dialer.DialTCP(ctx, c.pod.UID, plan.Dial, netip.AddrPort{})
		if err != nil {
			return err
		}
		c.mu.Lock()
		c.plain = plain
		c.mu.Unlock()
		return nil
	}
	stream, err := o.tunnel(ctx, c, plan)
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.stream = stream
	c.mu.Unlock()
	return nil
}
