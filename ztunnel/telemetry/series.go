package telemetry

import (
	"sync"
	"time"
)

// key is what distinguishes series.
type key struct {
	Reporter            Reporter
	Source, Destination End
	Service             Service
	Secure              bool
}

// series counts the connections of one key. Live connections are in a list, so that their bytes can be counted when
// somebody asks and not on each read.
type series struct {
	key key

	mu                sync.Mutex
	opened, closed    uint64
	failed            [flagEnd]uint64
	request, response uint64 // bytes of closed connections, and of live ones when last looked at
	live              *Conn
	used              time.Time
}

// open adds a connection to the list.
func (s *series) open(c *Conn, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.series = s
	s.opened++
	s.used = now
	c.next = s.live
	if s.live != nil {
		s.live.prev = c
	}
	s.live = c
}

// close takes it out and counts the rest of its bytes.
func (s *series) close(c *Conn, flag Flag, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.takeLocked(c)
	s.closed++
	if flag != FlagNone {
		s.failed[min(flag, flagEnd-1)]++
	}
	s.used = now
	if c.prev != nil {
		c.prev.next = c.next
	} else {
		s.live = c.next
	}
	if c.next != nil {
		c.next.prev = c.prev
	}
	c.prev, c.next = nil, nil
}

// takeLocked counts what a connection has carried since it was last looked at.
func (s *series) takeLocked(c *Conn) {
	request, response := c.bytes()
	s.request += request - c.requestCounted
	s.response += response - c.responseCounted
	c.requestCounted, c.responseCounted = request, response
}

// totals are a series' figures at one moment.
type totals struct {
	opened, closed, request, response uint64
	failed                            [flagEnd]uint64
}

func (s *series) totals() totals {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := s.live; c != nil; c = c.next {
		s.takeLocked(c)
	}
	return totals{s.opened, s.closed, s.request, s.response, s.failed}
}

// staleAt reports whether nothing has used the series for ttl.
func (s *series) staleAt(now time.Time, ttl time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.live == nil && now.Sub(s.used) >= ttl
}
