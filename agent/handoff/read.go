package handoff

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ambit-mesh/ambit/agent/api"
	"github.com/ambit-mesh/ambit/agent/pods"
	"google.golang.org/protobuf/proto"
)

// read acts on what the ztunnel says until the connection ends.
func (c *conn) read(ctx context.Context) error {
	for {
		var m api.ToAgent
		fds, err := c.wire.Recv(&m)
		if err != nil {
			return err
		}
		if err := c.rate.Wait(ctx); err != nil {
			fds.Close()
			return err
		}
		switch v := m.GetMessage().(type) {
		case *api.ToAgent_ReturnPod:
			err = c.returnPod(v.ReturnPod, fds)
		case *api.ToAgent_ReturnDone:
			err = c.returnDone()
		case *api.ToAgent_Ack:
			err = c.acked(v.Ack)
		case *api.ToAgent_SocketRequest:
			select {
			case c.requests <- &m:
			case <-ctx.Done():
				return ctx.Err()
			}
		case *api.ToAgent_Ready:
			c.isReady()
		case *api.ToAgent_Draining:
			c.isDraining()
		default:
			err = fmt.Errorf("%w: %T in mid-connection", api.ErrProtocol, v)
		}
		if err != nil {
			return err
		}
	}
}

// returnPod takes listeners back. Of a pod that is served they only show whether the ztunnel has the same sockets.
func (c *conn) returnPod(m *api.ReturnPod, fds api.Fds) error {
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	uid := pods.UID(m.GetPod().GetUid())
	if !c.returning || c.known[uid] != nil || len(c.known) >= maxReturned {
		fds.Close()
		return fmt.Errorf("%w: pod %s is returned late, twice, or is one too many", api.ErrProtocol, uid)
	}
	c.known[uid] = &known{wire: m.GetPod(), kinds: m.GetKinds(), cookies: cookies(fds)}
	if s.pods[uid] != nil || s.returned[uid] != nil || len(s.returned) >= maxReturned {
		s.cfg.Metrics.returned.WithLabelValues("known").Inc()
		return fds.Close()
	}
	s.cfg.Metrics.returned.WithLabelValues("kept").Inc()
	s.returned[uid] = &Returned{Pod: proto.CloneOf(m.GetPod()), Kinds: m.GetKinds(), Fds: fds}
	return nil
}

func (c *conn) returnDone() error {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if !c.returning {
		return fmt.Errorf("%w: a second end of what is returned", api.ErrProtocol)
	}
	c.returning, c.returnedAt = false, c.s.begun
	c.s.notify() // the reconcile loop makes a pass
	c.wakeUp()
	return nil
}

func (c *conn) acked(a *api.Ack) error {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	p, ok := c.inFlight[a.GetOf()]
	if !ok {
		if len(c.early) >= maxInFlight {
			return fmt.Errorf("%w: acknowledgements of what was never sent", api.ErrProtocol)
		}
		c.early[a.GetOf()] = a.GetError()
		return nil
	}
	delete(c.inFlight, a.GetOf())
	c.settleLocked(p, a.GetError())
	return nil
}

// settleLocked notes the outcome of a message.
func (c *conn) settleLocked(p pending, refusal string) {
	defer c.wakeUp() // there is room in flight
	k := c.known[p.uid]
	if k == nil || p.gen == 0 {
		return
	}
	k.acked, k.refusal = p.gen, refusal
	if refusal != "" {
		k.acked, k.refused = 0, time.Now()
		c.s.cfg.Metrics.ackErrors.Inc()
		c.s.cfg.Log.Error("ztunnel could not take a pod; it is offered again", "uid", p.uid, "instance", c.instance, "err", refusal)
	}
	c.s.notify()
}

// isReady makes this ztunnel the one that serves: older ones drain; if it is itself the older one, it does.
func (c *conn) isReady() {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.ready = true
	for o := range c.s.conns {
		switch {
		case o == c || o.draining:
		case c.newerThan(o):
			o.draining, o.tellDrain = true, true
			o.wakeUp()
		case o.ready:
			c.draining, c.tellDrain = true, true
			c.wakeUp()
		}
	}
	c.s.countLocked()
	c.s.notify()
}

func (c *conn) isDraining() {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.draining, c.tellDrain = true, false
	c.s.countLocked()
	c.s.notify()
}

// makeSockets answers socket requests, in order, until there are no more.
func (c *conn) makeSockets() error {
	var broken error
	for m := range c.requests {
		if broken != nil {
			continue // the reader must find room until it has noticed
		}
		if broken = c.answer(m.GetSeq(), m.GetSocketRequest()); broken != nil {
			c.wire.Close() // ends the reader, which closes requests
		}
	}
	return broken
}

func (c *conn) answer(seq uint64, r *api.SocketRequest) error {
	uid := pods.UID(r.GetUid())
	fds, err := c.socketsFor(uid, r)
	defer fds.Close()
	m := &api.Sockets{Request: seq, Uid: r.GetUid(), Kind: r.GetKind(), Count: uint32(len(fds))}
	outcome := "granted"
	switch {
	case err != nil:
		outcome, m.Error = "refused", clip(err.Error())
	case len(fds) < int(r.GetCount()):
		outcome = "reduced"
	}
	c.s.cfg.Metrics.requests.WithLabelValues(outcome).Inc()
	c.s.cfg.Metrics.sockets.WithLabelValues(r.GetKind().String()).Add(float64(len(fds)))
	_, err = c.wire.Send(&api.ToZtunnel{Message: &api.ToZtunnel_Sockets{Sockets: m}}, fds...)
	return err
}

// socketsFor makes sockets in pods that are served, and in those that left while this ztunnel finishes their connections.
func (c *conn) socketsFor(uid pods.UID, r *api.SocketRequest) (api.Fds, error) {
	c.s.mu.Lock()
	_, ok := c.s.pods[uid]
	c.s.mu.Unlock()
	if !ok {
		return nil, errors.New("no such pod in the mesh on this node")
	}
	fds, err := c.s.cfg.Make(uid, r.GetKind(), int(r.GetCount()))
	if err == nil && len(fds) == 0 {
		err = errors.New("no socket now; ask again")
	}
	if len(fds) > int(r.GetCount()) {
		return nil, errors.Join(errors.New("the agent made too many"), fds.Close())
	}
	return slices.Clip(fds), err
}
