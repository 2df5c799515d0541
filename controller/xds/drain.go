package xds

import (
	"context"
	"math/rand/v2"
	"time"
)

// Drain asks the clients to leave, in random order and spread over a while, so that a cluster's nodes do not all arrive at the
// next replica at once: gap apart, but within the given time altogether. New clients are refused from the start. Drain returns
// when the last was asked, or at once with everybody asked when ctx ends; a second call does nothing.
func (s *Server) Drain(ctx context.Context, gap, within time.Duration) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.closed = true
	close(s.leaving)
	var streams []*stream
	for _, st := range s.streams {
		streams = append(streams, st)
	}
	s.mu.Unlock()
	rand.Shuffle(len(streams), func(i, j int) { streams[i], streams[j] = streams[j], streams[i] })
	if n := time.Duration(len(streams)); n > 0 {
		gap = min(gap, within/n)
	}
	tick := time.NewTicker(max(gap, 1))
	defer tick.Stop()
	for i, st := range streams {
		if i > 0 {
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
		st.goAway()
	}
}

// goAway asks one client to leave.
func (st *stream) goAway() { st.left.Do(func() { close(st.leave) }) }

// Disconnect asks the clients with a node id to reconnect, and returns how many there were.
func (s *Server) Disconnect(id string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range s.streams {
		if st.node.id == id {
			st.goAway()
			n++
		}
	}
	return n
}
