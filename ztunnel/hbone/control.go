package hbone

import (
	"golang.org/x/net/http2"

	"github.com/ambit-mesh/ambit/ztunnel/hbone/head"
)

// drainPing marks the PING whose answer shows that the peer has seen our first GOAWAY.
var drainPing = [8]byte{'d', 'r', 'a', 'i', 'n'}

// replied wakes the flusher after the reader queued an answer, unless the queue shows that the peer does not read.
func (c *conn) replied() error {
	c.mu.Lock()
	n := len(c.ctl)
	c.mu.Unlock()
	if n > maxControlQueue {
		return &connFailure{http2.ErrCodeEnhanceYourCalm, "control frames pile up unread"}
	}
	c.wake()
	return nil
}

func (c *conn) onSettings(f *http2.SettingsFrame) error {
	if err := c.guard.spend(costControl); err != nil {
		return err
	}
	if f.IsAck() {
		return nil
	}
	if f.NumSettings() > 64 || f.HasDuplicates() && f.NumSettings() > 16 {
		return &connFailure{http2.ErrCodeEnhanceYourCalm, "too many settings"}
	}
	c.gotSetting = true
	c.mu.Lock()
	slots := c.cfg.MaxStreams // no limit of the peer until it states one
	if c.settled {
		slots = c.slots
	}
	err := f.ForeachSetting(func(st http2.Setting) error {
		if err := st.Valid(); err != nil {
			return err
		}
		switch st.ID {
		case http2.SettingInitialWindowSize:
			return c.initialWindowLocked(int64(st.Val))
		case http2.SettingMaxFrameSize:
			c.peerMax = int(st.Val)
		case http2.SettingMaxConcurrentStreams:
			slots = int(min(int64(c.cfg.MaxStreams), int64(st.Val)))
		case http2.SettingHeaderTableSize:
			c.henc.SetMaxDynamicTableSizeLimit(min(st.Val, 4096))
		}
		return nil
	})
	c.slots = slots
	c.settled = true
	if err == nil {
		c.queued(c.fr.WriteSettingsAck())
	}
	c.mu.Unlock()
	if err != nil {
		return err
	}
	c.changed()
	return c.replied()
}

// initialWindowLocked applies a new initial window to all streams (RFC 9113, 6.9.2).
func (c *conn) initialWindowLocked(n int64) error {
	delta := n - c.peerInit
	c.peerInit = n
	for _, s := range c.streams {
		if !s.send.Add(delta) {
			return &connFailure{http2.ErrCodeFlowControl, "initial window overflows a stream's"}
		}
		s.cond.signal()
	}
	return nil
}

func (c *conn) onPing(f *http2.PingFrame) error {
	if err := c.guard.spend(costControl); err != nil {
		return err
	}
	if f.IsAck() {
		if f.Data == drainPing {
			c.finalGoAway()
		}
		return nil
	}
	c.mu.Lock()
	c.queued(c.fr.WritePing(true, f.Data))
	c.mu.Unlock()
	return c.replied()
}

func (c *conn) onWindowUpdate(f *http2.WindowUpdateFrame) error {
	c.mu.Lock()
	if f.StreamID == 0 {
		ok := c.send.Add(int64(f.Increment))
		for _, s := range c.starved {
			s.cond.signal()
		}
		clear(c.starved)
		c.starved = c.starved[:0]
		c.mu.Unlock()
		if !ok {
			return &connFailure{http2.ErrCodeFlowControl, "connection window overflows"}
		}
		return nil
	}
	s, idle := c.streams[f.StreamID], c.idleLocked(f.StreamID)
	ok := true
	if s != nil {
		ok = s.send.Add(int64(f.Increment))
		s.cond.signal()
	}
	c.mu.Unlock()
	switch {
	case idle:
		return &connFailure{http2.ErrCodeProtocol, "WINDOW_UPDATE on an idle stream"}
	case s == nil:
		return c.guard.spend(costIgnored)
	case !ok:
		c.resetStream(s, http2.ErrCodeFlowControl)
	}
	return nil
}

func (c *conn) onReset(f *http2.RSTStreamFrame) error {
	c.flushGather() // what came before the reset was sent before it
	c.cfg.Metrics.ResetsReceived.Add(1)
	c.mu.Lock()
	s, idle := c.streams[f.StreamID], c.idleLocked(f.StreamID)
	if s == nil {
		c.mu.Unlock()
		if idle {
			return &connFailure{http2.ErrCodeProtocol, "RST_STREAM on an idle stream"}
		}
		return c.guard.spend(costIgnored)
	}
	var why error = &ResetError{Code: f.ErrCode, Remote: true}
	cost := costControl
	if s.head != headDone {
		if c.client && f.ErrCode == http2.ErrCodeRefusedStream {
			why = ErrNotProcessed
		}
		if !c.client {
			cost = costEarlyReset
		}
	}
	c.endLocked(s, why)
	c.forgetLocked(s)
	c.mu.Unlock()
	s.abort(why)
	c.changed()
	return c.guard.spend(cost)
}

func (c *conn) onGoAway(f *http2.GoAwayFrame) error {
	if !c.client {
		return nil // a client that goes away ends its streams itself
	}
	if f.ErrCode != http2.ErrCodeNo {
		c.cfg.Log.Debug("server said goaway", "code", f.ErrCode.String(), "detail", string(f.DebugData()[:min(len(f.DebugData()), 128)]))
	}
	c.mu.Lock()
	select {
	case <-c.goaway:
	default:
		close(c.goaway)
	}
	c.drain = drainFinal
	var unprocessed []*Stream
	for id, s := range c.streams {
		if id > f.LastStreamID && s.head != headDone {
			unprocessed = append(unprocessed, s)
			c.endLocked(s, ErrNotProcessed)
			c.forgetLocked(s)
		}
	}
	c.finishDrainLocked()
	c.mu.Unlock()
	for _, s := range unprocessed {
		s.abort(ErrNotProcessed)
	}
	c.changed()
	return c.guard.spend(costControl)
}

func (c *conn) onHeaders(f *http2.MetaHeadersFrame) error {
	if c.client {
		return c.onResponse(f)
	}
	return c.onRequest(f)
}

// onTrailers handles a second HEADERS on a stream: CONNECT has no trailers, so only its END_STREAM counts.
func (c *conn) onTrailers(s *Stream, f *http2.MetaHeadersFrame) error {
	if !f.StreamEnded() || s.recvEnd.Load() {
		c.resetStream(s, http2.ErrCodeProtocol)
		return c.guard.spend(costError)
	}
	c.flushGather()
	s.remoteEnd()
	return nil
}

func (c *conn) onResponse(f *http2.MetaHeadersFrame) error {
	c.mu.Lock()
	s, idle := c.streams[f.StreamID], c.idleLocked(f.StreamID)
	answered := s != nil && s.head == headDone
	c.mu.Unlock()
	switch {
	case idle:
		return &connFailure{http2.ErrCodeProtocol, "HEADERS on an idle stream"}
	case s == nil:
		return c.guard.spend(costIgnored)
	case answered:
		return c.onTrailers(s, f)
	}
	answer, err := head.ParseResponse(f.Fields)
	if err != nil || f.Truncated || answer.Status < 200 && f.StreamEnded() {
		c.resetStream(s, http2.ErrCodeProtocol)
		return c.guard.spend(costError)
	}
	if answer.Status < 200 {
		return c.guard.spend(costControl) // interim response
	}
	if f.StreamEnded() {
		s.remoteEnd()
	}
	c.mu.Lock()
	if s.waiting != nil { // nobody waits on a stream that has ended meanwhile
		s.waiting.resp = answer
		s.head = headDone
		s.answeredLocked()
	}
	c.mu.Unlock()
	return nil
}

// headersLocked encodes a header list and queues it, split at the peer's frame size.
func (c *conn) headersLocked(id uint32, end bool) {
	c.hbuf.Reset()
	for _, f := range c.fields {
		c.henc.WriteField(f) // writes to a bytes.Buffer: cannot fail
	}
	clear(c.fields)
	c.fields = c.fields[:0]
	block := c.hbuf.Bytes()
	first := block[:min(len(block), c.peerMax)]
	block = block[len(first):]
	c.queued(c.fr.WriteHeaders(http2.HeadersFrameParam{
		StreamID: id, BlockFragment: first, EndStream: end, EndHeaders: len(block) == 0,
	}))
	for len(block) > 0 {
		part := block[:min(len(block), c.peerMax)]
		block = block[len(part):]
		c.queued(c.fr.WriteContinuation(id, len(block) == 0, part))
	}
}

// pushLocked writes queued frames now if nobody else is writing; mu is released while it does.
func (c *conn) pushLocked() {
	if !c.writing && c.err == nil {
		c.writing = true
		c.companyLocked()
		c.leadLocked()
	}
}
