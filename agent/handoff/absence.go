package handoff

import (
	"context"
	"time"
)

// watchAbsence resets waiting connections while there has been no ztunnel for too long: a client that is told at once can try
// elsewhere, one that waits for ever cannot. The listeners stay, so the next ztunnel serves again without a gap.
func (s *Server) watchAbsence(ctx context.Context) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			s.resetIfAbsent()
		}
	}
}

func (s *Server) resetIfAbsent() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.absent.IsZero() {
		s.cfg.Metrics.absent.Set(0)
		return
	}
	away := time.Since(s.absent)
	s.cfg.Metrics.absent.Set(away.Seconds())
	if away < s.cfg.Absence {
		return
	}
	if !s.said && len(s.pods) > 0 {
		s.said = true
		s.cfg.Log.Error("no ztunnel serves this node: connections that wait for one are reset until one comes",
			"away", away.Round(time.Second), "pods", len(s.pods))
	}
	n := 0
	for _, p := range s.pods {
		for i, kind := range p.kinds {
			n += s.cfg.Reset(p.fds[i], kind)
		}
	}
	s.cfg.Metrics.resets.Add(float64(n))
}

// Unserved is how many pods' connections are being reset because no ztunnel has been there for too long.
func (s *Server) Unserved() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.said {
		return 0
	}
	return len(s.pods)
}

// countLocked notes who serves, after any change of a connection's state.
func (s *Server) countLocked() {
	states := map[string]int{}
	serving := false
	for c := range s.conns {
		states[c.stateLocked()]++
		serving = serving || c.synced && !c.draining
	}
	for _, state := range []string{"returning", "waiting", "synced", "ready", "draining"} {
		s.cfg.Metrics.ztunnels.WithLabelValues(state).Set(float64(states[state]))
	}
	switch {
	case serving:
		if s.said {
			s.cfg.Log.Info("a ztunnel serves this node again")
		}
		s.absent, s.said = time.Time{}, false
	case s.absent.IsZero():
		s.absent = time.Now()
	}
}
