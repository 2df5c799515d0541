package hbone

import "time"

// drainPingTimeout is how long the first stage of a drain waits for the peer's answer.
const drainPingTimeout = 5 * time.Second

// begin starts the connection's clock.
func (c *conn) begin() {
	now := time.Now()
	c.lastRead.Store(now.UnixNano())
	c.mu.Lock()
	defer c.mu.Unlock()
	c.start = now
	c.scheduleLocked(min(c.cfg.SettingsTimeout, c.cfg.PingInterval))
}

// scheduleLocked makes tick run in d or earlier.
func (c *conn) scheduleLocked(d time.Duration) {
	if c.err != nil {
		return
	}
	if c.timer != nil && c.timer.Stop() {
		c.timers.Done()
	}
	c.timers.Add(1)
	c.timer = time.AfterFunc(max(d, time.Millisecond), c.tick)
}

func (c *conn) stopTimer() {
	c.mu.Lock()
	if c.timer != nil && c.timer.Stop() {
		c.timers.Done()
	}
	c.timer = nil
	c.mu.Unlock()
	c.timers.Wait()
}

// tick looks at everything that has a deadline, and schedules the next look.
func (c *conn) tick() {
	defer c.timers.Done()
	now := time.Now()
	c.mu.Lock()
	next, err := c.overdueLocked(now)
	if err == nil {
		c.scheduleLocked(next)
	}
	c.mu.Unlock()
	if err != nil {
		c.cfg.Log.Debug("tunnel timed out", "err", err)
		c.fail(err)
		return
	}
	c.wake()
}

// overdueLocked returns an error if the peer is silent for too long, or else when to look again. Any plaintext that arrived
// counts as life, so a busy connection is never pinged.
func (c *conn) overdueLocked(now time.Time) (time.Duration, error) {
	cfg, m := &c.cfg, c.cfg.Metrics
	next := cfg.PingInterval
	if !c.settled {
		left := cfg.SettingsTimeout - now.Sub(c.start)
		if left <= 0 {
			m.SettingsTimeouts.Add(1)
			return 0, timeoutError("SETTINGS")
		}
		next = min(next, left)
	}
	if stall := cfg.PingInterval + cfg.PingTimeout; !c.writeAt.IsZero() && now.Sub(c.writeAt) >= stall {
		m.StalledWrites.Add(1)
		return 0, timeoutError("data: nothing was read for " + stall.String())
	}
	if c.drain == drainAnnounce {
		left := drainPingTimeout - now.Sub(c.drainAt)
		if left <= 0 {
			// Streams from now on are refused; finalGoAway takes the lock itself.
			c.timers.Go(c.finalGoAway)
		} else {
			next = min(next, left)
		}
	}
	read := time.Unix(0, c.lastRead.Load())
	switch {
	case !c.pingSent.IsZero() && !read.Before(c.pingSent):
		c.pingSent = time.Time{}
	case !c.pingSent.IsZero() && now.Sub(c.pingSent) >= cfg.PingTimeout:
		m.PingTimeouts.Add(1)
		return 0, timeoutError("ping")
	case !c.pingSent.IsZero():
		return min(next, cfg.PingTimeout-now.Sub(c.pingSent)), nil
	}
	if silent := now.Sub(read); silent < cfg.PingInterval {
		return min(next, cfg.PingInterval-silent), nil
	}
	c.pingSent = now
	c.queued(c.fr.WritePing(false, [8]byte{}))
	return min(next, cfg.PingTimeout), nil
}

// timeoutError is [ErrTimeout] with what was not answered.
type timeoutError string

// Error implements error.
func (e timeoutError) Error() string { return ErrTimeout.Error() + ": " + string(e) }

// Unwrap makes errors.Is find ErrTimeout.
func (e timeoutError) Unwrap() error { return ErrTimeout }

// Timeout implements the convention of package net.
func (e timeoutError) Timeout() bool { return true }
