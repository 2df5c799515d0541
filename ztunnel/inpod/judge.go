package inpod

import (
	"context"
	"errors"
	"time"

	"github.com/ambit-mesh/ambit/ztunnel/policy"
	"github.com/ambit-mesh/ambit/ztunnel/state"
)

// pendingLimit is how long a live connection may stay for which the answer is only missing (design, section 7).
const pendingLimit = 5 * time.Second

// judgeLoop judges live connections again whenever something changes that may alter a decision.
func (ps *Pods) judgeLoop(ctx context.Context) {
	snap := ps.cfg.Store.Load()
	var again time.Time // zero: not before a change
	for {
		wait, cancel := ctx, context.CancelFunc(func() {})
		if !again.IsZero() {
			wait, cancel = context.WithDeadline(ctx, again)
		}
		next, err := ps.cfg.Store.WaitJudgement(wait, snap.Judgement())
		cancel()
		if err != nil && (ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded)) {
			return
		}
		snap, again = next, time.Time{}
		now := time.Now()
		for _, p := range ps.all() {
			if at := p.judge(snap, now); !at.IsZero() && (again.IsZero() || at.Before(again)) {
				again = at
			}
		}
	}
}

// verdicts is a pod's state of judgement; of the judging goroutine only.
type verdicts struct {
	workload string
	policies state.PolicySet
	pending  time.Time // since when answers are missing; zero: none is
}

// judge judges the pod's connections by the workload record and the policies of now, and cuts those that are denied. The
// answer is when to do so again although nothing changes; zero: not.
//
// A change costs a pod that it does not concern one comparison: equal policy sets judge alike.
func (p *Pod) judge(snap *state.Snapshot, now time.Time) (again time.Time) {
	v := &p.live.verdicts
	var on verdicts
	if w := p.Workload(snap); w != nil {
		on = verdicts{workload: w.UID, policies: snap.PoliciesOf(w)}
	}
	if v.pending.IsZero() && v.workload == on.workload && v.policies == on.policies {
		return time.Time{}
	}
	v.workload, v.policies = on.workload, on.policies
	known := map[policy.Conn]policy.Decision{} // many connections of one client differ in its port only
	pending := false
	for _, c := range p.live.list(true) {
		conn := c.Judged()
		key := conn
		key.Source = withoutPort(key.Source)
		d, ok := known[key]
		if !ok {
			d = policy.Authorize(snap, conn)
			known[key] = d
		}
		switch {
		case d.Allowed():
		case d.Reason.Pending() && (v.pending.IsZero() || now.Before(v.pending.Add(pendingLimit))):
			pending = true
		default:
			p.owner.metrics.cut.WithLabelValues(d.Reason.String()).Inc()
			c.Cut(CausePolicy, d)
		}
	}
	p.owner.metrics.judged.Add(float64(len(known)))
	if !pending {
		v.pending = time.Time{}
		return time.Time{}
	}
	if v.pending.IsZero() {
		v.pending = now
	}
	return v.pending.Add(pendingLimit)
}
