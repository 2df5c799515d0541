package handoff

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/ambit-mesh/ambit/agent/api"
	"github.com/ambit-mesh/ambit/agent/pods"
)

// write tells the ztunnel whatever it does not know yet, one message after the other, until ctx ends.
func (c *conn) write(ctx context.Context) error {
	retry := time.NewTicker(retryRefused)
	defer retry.Stop()
	for {
		next, err := c.next()
		if err != nil {
			return err
		}
		if next == nil {
			select {
			case <-ctx.Done():
				return nil
			case <-c.wake:
			case <-retry.C:
			}
			continue
		}
		if err := c.send(next); err != nil {
			return err
		}
	}
}

// step is a message to be sent, and what its acknowledgement will mean.
type step struct {
	message *api.ToZtunnel
	fds     api.Fds
	pending pending
	acks    bool // the message will be acknowledged
}

func (c *conn) send(st *step) error {
	defer st.fds.Close()
	seq, err := c.wire.Send(st.message, st.fds...)
	if err != nil {
		return err
	}
	if !st.acks {
		return nil
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if refusal, ok := c.early[seq]; ok {
		delete(c.early, seq)
		c.settleLocked(st.pending, refusal)
		return nil
	}
	c.inFlight[seq] = st.pending
	return nil
}

// next picks the most urgent difference between what is and what the ztunnel was told. Nil: there is none, or it must first
// acknowledge.
func (c *conn) next() (*step, error) {
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.returning || s.ended <= c.returnedAt || len(c.inFlight) >= maxInFlight {
		return nil, nil
	}
	if c.tellDrain {
		c.tellDrain = false
		return &step{message: drain(s.cfg.Drain), acks: true}, nil
	}
	for uid, k := range c.known {
		if st := c.removalLocked(uid, k); st != nil {
			return st, nil
		}
	}
	if !c.draining {
		for uid, p := range s.pods {
			if st, err := c.additionLocked(uid, p); st != nil || err != nil {
				return st, err
			}
		}
	} else if st := c.keepAllLocked(); st != nil {
		return st, nil
	}
	if !c.synced {
		c.synced = true
		s.countLocked()
		return &step{message: &api.ToZtunnel{Message: &api.ToZtunnel_SnapshotSent{SnapshotSent: &api.SnapshotSent{}}}}, nil
	}
	return nil, nil
}

// removalLocked ends a pod that is no more. Where it was returned and not yet confirmed, it is confirmed first, since what a
// snapshot does not name counts as gone, and a pod that merely left keeps its live connections.
func (c *conn) removalLocked(uid pods.UID, k *known) *step {
	reason, leaving := c.leaving[uid]
	_, there := c.s.pods[uid]
	if there && !leaving {
		return nil
	}
	if _, unsettled := c.s.returned[uid]; unsettled && !leaving {
		return c.keepLocked(uid, k, 1) // the reconcile loop could not deal with it yet: do not let it go
	}
	if !leaving {
		reason = api.DelPod_GONE
	}
	if k.told == 0 && reason == api.DelPod_LEFT {
		return c.keepLocked(uid, k, 1)
	}
	delete(c.leaving, uid)
	delete(c.known, uid)
	m := &api.DelPod{Uid: string(uid), Reason: reason}
	return &step{message: &api.ToZtunnel{Message: &api.ToZtunnel_DelPod{DelPod: m}}, acks: true}
}

// keepLocked confirms what the ztunnel returned, unless that was done.
func (c *conn) keepLocked(uid pods.UID, k *known, gen uint64) *step {
	if k.told >= gen {
		return nil
	}
	k.told = gen
	m := &api.KeepPod{Uid: string(uid)}
	return &step{message: &api.ToZtunnel{Message: &api.ToZtunnel_KeepPod{KeepPod: m}}, pending: pending{uid, gen}, acks: true}
}

// keepAllLocked confirms to a ztunnel that drains whatever it returned and what still is.
func (c *conn) keepAllLocked() *step {
	for uid, k := range c.known {
		if k.told == 0 {
			return c.keepLocked(uid, k, 1)
		}
	}
	return nil
}

// additionLocked brings a pod that is new to the ztunnel, or changed, or was refused some time ago.
func (c *conn) additionLocked(uid pods.UID, p *served) (*step, error) {
	k := c.known[uid]
	again := k != nil && k.refusal != "" && time.Since(k.refused) >= retryRefused
	if k != nil && k.told == p.gen && !again {
		return nil, nil
	}
	if k != nil && k.wire != nil && samePod(k.wire, p.wire) && slices.Equal(k.kinds, p.kinds) && sameSockets(k.cookies, p.cookies) {
		return c.keepLocked(uid, k, p.gen), nil
	}
	fds, err := p.fds.Dup()
	if err != nil {
		return nil, fmt.Errorf("listeners of pod %s: %w", uid, err)
	}
	// From now on what it returned says nothing: AddPod replaces it.
	c.known[uid] = &known{told: p.gen}
	m := &api.AddPod{Pod: p.wire, Kinds: p.kinds}
	return &step{message: &api.ToZtunnel{Message: &api.ToZtunnel_AddPod{AddPod: m}}, fds: fds, pending: pending{uid, p.gen}, acks: true}, nil
}

func drain(grace time.Duration) *api.ToZtunnel {
	m := &api.Drain{}
	if grace > 0 {
		m.DeadlineUnixMs = time.Now().Add(grace).UnixMilli()
	}
	return &api.ToZtunnel{Message: &api.ToZtunnel_Drain{Drain: m}}
}
