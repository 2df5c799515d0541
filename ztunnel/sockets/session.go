package sockets

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/ambit-mesh/ambit/agent/api"
)

// session is one connection to the agent. read runs in one goroutine, refillStocks in another; sending is safe from any.
type session struct {
	c       *Client
	conn    *api.Conn
	log     *slog.Logger
	named   map[string]bool // until the snapshot is complete; of the reading goroutine
	synced  chan struct{}   // closed when it is
	answers chan answer     // to refillStocks; has room for every open request, so the reader never waits
}

// connect says hello, returns what is held, and leaves the agent about to send its snapshot.
func (c *Client) connect(ctx context.Context) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, helloTimeout)
	defer cancel()
	conn, err := api.Dial(ctx, c.cfg.Path)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	s := &session{
		c: c, conn: conn, log: c.cfg.Log, named: map[string]bool{}, synced: make(chan struct{}),
		answers: make(chan answer, maxRequests),
	}
	if err := errors.Join(s.hello(), s.returnPods()); err != nil {
		conn.Close()
		return nil, err
	}
	return s, nil
}

func (s *session) hello() error {
	hello := &api.Hello{MinVersion: api.MinVersion, Version: api.Version, Instance: s.c.cfg.Instance, Build: s.c.cfg.Build}
	if _, err := s.conn.Send(&api.ToAgent{Message: &api.ToAgent_Hello{Hello: hello}}); err != nil {
		return fmt.Errorf("hello: %w", err)
	}
	var m api.ToZtunnel
	fds, err := s.conn.Recv(&m)
	if err != nil {
		return fmt.Errorf("welcome: %w", err)
	}
	fds.Close()
	if r := m.GetRefuse(); r != nil {
		return fmt.Errorf("the agent refused this ztunnel: %s", r.GetReason())
	}
	w := m.GetWelcome()
	if w == nil {
		return fmt.Errorf("%w: no welcome", api.ErrProtocol)
	}
	if _, err := api.Negotiate(w.GetVersion(), w.GetVersion()); err != nil {
		return err
	}
	s.log.Info("connected to the node agent", "node", w.GetNode())
	return nil
}

// returnPods gives the agent the listeners that outlived its predecessor.
func (s *session) returnPods() error {
	s.c.mu.Lock()
	var entries []*entry
	for _, e := range s.c.pods {
		if !e.left {
			entries = append(entries, e)
		}
	}
	s.c.mu.Unlock()
	for _, e := range entries { // only the reading goroutine, which we are, closes what an entry holds
		m := &api.ReturnPod{Pod: e.wire, Kinds: e.held.kinds}
		if _, err := s.conn.Send(&api.ToAgent{Message: &api.ToAgent_ReturnPod{ReturnPod: m}}, e.held.fds...); err != nil {
			return fmt.Errorf("return pod %s: %w", e.pod.UID, err)
		}
	}
	_, err := s.conn.Send(&api.ToAgent{Message: &api.ToAgent_ReturnDone{ReturnDone: &api.ReturnDone{}}})
	if err != nil {
		return fmt.Errorf("return pods: %w", err)
	}
	return nil
}

// read acts on what the agent says until the connection ends.
func (s *session) read() error {
	for {
		var m api.ToZtunnel
		fds, err := s.conn.Recv(&m)
		if err != nil {
			return fmt.Errorf("node agent: %w", err)
		}
		ack := true
		switch v := m.GetMessage().(type) {
		case *api.ToZtunnel_AddPod:
			err = s.c.add(v.AddPod, fds)
			s.name(v.AddPod.GetPod().GetUid())
		case *api.ToZtunnel_KeepPod:
			err = s.c.keep(v.KeepPod.GetUid())
			s.name(v.KeepPod.GetUid())
		case *api.ToZtunnel_DelPod:
			s.c.remove(v.DelPod)
		case *api.ToZtunnel_Drain:
			s.c.cfg.Handler.Drain(deadline(v.Drain.GetDeadlineUnixMs()))
		case *api.ToZtunnel_SnapshotSent:
			ack = false
			s.snapshotSent()
		case *api.ToZtunnel_Sockets:
			ack = false
			s.answered(v.Sockets, fds)
		case *api.ToZtunnel_Refuse:
			return fmt.Errorf("the agent ended the connection: %s", v.Refuse.GetReason())
		default:
			fds.Close()
			return fmt.Errorf("%w: %T in mid-connection", api.ErrProtocol, v)
		}
		if !ack {
			continue
		}
		if err := s.ack(m.GetSeq(), err); err != nil {
			return err
		}
	}
}

func (s *session) ack(seq uint64, result error) error {
	a := &api.Ack{Of: seq}
	if result != nil {
		s.log.Error("pod is not served", "err", result)
		a.Error = result.Error()
		a.Error = a.Error[:min(len(a.Error), api.MaxText)]
	}
	if _, err := s.conn.Send(&api.ToAgent{Message: &api.ToAgent_Ack{Ack: a}}); err != nil {
		return fmt.Errorf("acknowledge: %w", err)
	}
	return nil
}

func (s *session) name(uid string) {
	if s.named != nil {
		s.named[uid] = true
	}
}

// snapshotSent takes away every pod that the agent did not name.
func (s *session) snapshotSent() {
	if s.named == nil {
		return // said before
	}
	for _, uid := range s.c.except(s.named) {
		s.c.remove(&api.DelPod{Uid: uid, Reason: api.DelPod_GONE})
	}
	s.named = nil
	s.c.cfg.Handler.Synced()
	close(s.synced)
}

// sayReady tells the agent, once its snapshot and everything else is there, that older ztunnels may go.
func (s *session) sayReady(ctx context.Context) {
	for _, ready := range []<-chan struct{}{s.synced, s.c.cfg.Ready} {
		select {
		case <-ready:
		case <-ctx.Done():
			return
		}
	}
	s.c.mu.Lock()
	draining := s.c.draining
	s.c.mu.Unlock()
	if draining {
		return
	}
	if _, err := s.conn.Send(&api.ToAgent{Message: &api.ToAgent_Ready{Ready: &api.Ready{}}}); err != nil {
		s.log.Warn("agent could not be told that this ztunnel is ready", "err", err)
	}
}

func (s *session) sayDraining() {
	if _, err := s.conn.Send(&api.ToAgent{Message: &api.ToAgent_Draining{Draining: &api.Draining{}}}); err != nil {
		s.log.Warn("agent could not be told that this ztunnel drains", "err", err)
	}
}

func deadline(unixMS int64) time.Time {
	if unixMS == 0 {
		return time.Time{}
	}
	return time.UnixMilli(unixMS)
}
