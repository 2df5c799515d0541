package hbone

import (
	"errors"
	"io"

	"golang.org/x/net/http2"
)

// read handles frames until the connection ends.
func (c *conn) read() error {
	for {
		fh, err := c.fr.ReadFrameHeader()
		if err != nil {
			return c.frameError(err)
		}
		if !c.gotSetting && fh.Type != http2.FrameSettings {
			return &connFailure{http2.ErrCodeProtocol, "first frame is not SETTINGS"}
		}
		if fh.Type == http2.FrameData {
			err = c.onData(fh)
		} else {
			err = c.onControl(fh)
		}
		if err != nil {
			return err
		}
	}
}

// frameError tells the end of input from what the Framer objects to.
func (c *conn) frameError(err error) error {
	if err == io.EOF {
		c.mu.Lock()
		defer c.mu.Unlock()
		if len(c.streams) == 0 {
			return ErrClosed
		}
		return ErrConnLost
	}
	return err
}

// onControl reads and handles one frame that is not DATA.
func (c *conn) onControl(fh http2.FrameHeader) error {
	switch fh.Type {
	case http2.FrameHeaders, http2.FrameSettings, http2.FramePing, http2.FrameGoAway, http2.FrameRSTStream,
		http2.FrameWindowUpdate, http2.FramePriority:
	case http2.FrameContinuation, http2.FramePushPromise:
		return &connFailure{http2.ErrCodeProtocol, "unexpected frame"}
	default: // RFC 9113, 5.5: ignore what we do not know
		if err := c.guard.spend(costControl); err != nil {
			return err
		}
		return c.skip(int(fh.Length))
	}
	if fh.Length > maxControlFrame {
		return &connFailure{http2.ErrCodeFrameSize, "control frame too large"}
	}
	f, err := c.readControl(fh)
	if err != nil {
		var se http2.StreamError
		if !errors.As(err, &se) {
			return err
		}
		if err := c.guard.spend(costError); err != nil {
			return err
		}
		if fh.Type == http2.FrameHeaders {
			c.noteID(se.StreamID)
			c.cfg.Metrics.StreamsRejected.Add(1)
			c.cfg.Log.Debug("connect rejected", "err", err)
		}
		c.resetID(se.StreamID, se.Code)
		return nil
	}
	switch f := f.(type) {
	case *http2.MetaHeadersFrame:
		return c.onHeaders(f)
	case *http2.SettingsFrame:
		return c.onSettings(f)
	case *http2.PingFrame:
		return c.onPing(f)
	case *http2.GoAwayFrame:
		return c.onGoAway(f)
	case *http2.RSTStreamFrame:
		return c.onReset(f)
	case *http2.WindowUpdateFrame:
		return c.onWindowUpdate(f)
	default:
		return c.guard.spend(costControl)
	}
}

// readControl reads a frame's payload and, for HEADERS, the CONTINUATION frames after it, whose number, empty ones too,
// and sizes are bounded.
func (c *conn) readControl(fh http2.FrameHeader) (http2.Frame, error) {
	c.fr.SetMaxReadFrameSize(maxControlFrame)
	c.in.allowance = maxHeaderReads
	f, err := c.fr.ReadFrameForHeader(fh)
	c.in.allowance = 0
	c.fr.SetMaxReadFrameSize(maxFrame)
	return f, err
}

// onData passes a DATA frame's payload on as it arrives; the frame is never whole in memory.
func (c *conn) onData(fh http2.FrameHeader) error {
	size := int(fh.Length)
	if fh.StreamID == 0 {
		return &connFailure{http2.ErrCodeProtocol, "DATA on stream 0"}
	}
	if !c.recv.Got(size) {
		return &connFailure{http2.ErrCodeFlowControl, "connection window exceeded"}
	}
	c.recv.Consumed(size)
	if c.recv.Due() {
		c.mu.Lock()
		c.queued(c.fr.WriteWindowUpdate(0, uint32(c.recv.Credit())))
		c.mu.Unlock()
		c.wake()
	}
	end := fh.Flags.Has(http2.FlagDataEndStream)
	if size == 0 && !end {
		return c.guard.spend(costControl)
	}
	data, pad := size, 0
	if fh.Flags.Has(http2.FlagDataPadded) {
		if size == 0 {
			return &connFailure{http2.ErrCodeFrameSize, "padded DATA without a length"}
		}
		b, err := c.in.take(1)
		if err != nil {
			return err
		}
		pad = int(b[0])
		data = size - 1 - pad
		if data < 0 {
			return &connFailure{http2.ErrCodeProtocol, "padding exceeds the frame"}
		}
		if err := c.guard.spend(costControl); err != nil {
			return err
		}
	}
	s, err := c.dataStream(fh.StreamID, size)
	if err != nil {
		return err
	}
	if s == nil {
		return c.skip(data + pad)
	}
	for left := data; left > 0; {
		b, err := c.in.take(left)
		if err != nil {
			return c.frameError(err)
		}
		c.gatherData(s, b)
		left -= len(b)
	}
	if size > data {
		if err := c.skip(pad); err != nil {
			return err
		}
		s.padded(size - data)
	}
	if end {
		c.flushGather()
		s.remoteEnd()
	}
	return nil
}

// dataStream finds the stream of a DATA frame and charges its window; nil means that the payload is to be ignored.
func (c *conn) dataStream(id uint32, size int) (*Stream, error) {
	c.mu.Lock()
	s := c.streams[id]
	idle := c.idleLocked(id)
	tooEarly := s != nil && c.client && s.head != headDone
	c.mu.Unlock()
	switch {
	case idle:
		return nil, &connFailure{http2.ErrCodeProtocol, "DATA on an idle stream"}
	case s == nil: // ended a moment ago; what is on the way is ignored
		return nil, c.guard.spend(costIgnored)
	case tooEarly:
		c.resetStream(s, http2.ErrCodeProtocol)
		return nil, c.guard.spend(costError)
	}
	if s.recvEnd.Load() {
		c.resetStream(s, http2.ErrCodeStreamClosed)
		return nil, c.guard.spend(costError)
	}
	s.mu.Lock()
	ok := s.recv.Got(size)
	s.mu.Unlock()
	if !ok {
		c.resetStream(s, http2.ErrCodeFlowControl)
		return nil, c.guard.spend(costError)
	}
	return s, nil
}

// padded gives credit for bytes that carry nothing.
func (s *Stream) padded(n int) {
	s.mu.Lock()
	credit := s.consumedLocked(n)
	s.mu.Unlock()
	s.c.credit(s, credit)
}

// resetStream resets s after what was gathered for it, if anything, was delivered.
func (c *conn) resetStream(s *Stream, code http2.ErrCode) {
	c.flushGather()
	s.reset(&ResetError{Code: code})
}

// skip discards n bytes of input.
func (c *conn) skip(n int) error {
	for n > 0 {
		b, err := c.in.take(n)
		if err != nil {
			return c.frameError(err)
		}
		n -= len(b)
	}
	return nil
}

// idleLocked reports whether a stream of that number has never been opened.
func (c *conn) idleLocked(id uint32) bool {
	if c.client {
		return id%2 == 0 || id >= c.nextID
	}
	return id%2 == 0 || id > c.maxPeerID
}

// resetID resets a stream by number, whether we know it or not.
func (c *conn) resetID(id uint32, code http2.ErrCode) {
	c.mu.Lock()
	s := c.streams[id]
	if s == nil && c.err == nil && id != 0 {
		c.queued(c.fr.WriteRSTStream(id, code))
	}
	c.mu.Unlock()
	if s != nil {
		c.resetStream(s, code)
		return
	}
	c.wake()
}
