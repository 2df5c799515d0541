package hbone

import (
	"bytes"
	"io"
	"testing"
	"testing/synctest"

	"golang.org/x/net/http2"
)

func refuse(s *Stream, _ *Head) { s.Refuse(StatusDenied) }

// TestServerAgainstOffenders sends what no peer may send; each must end the connection, or only the stream, with the right
// code, and nothing else may happen.
func TestServerAgainstOffenders(t *testing.T) {
	hold := func(s *Stream, _ *Head) { s.Accept(Baggage{}); io.Copy(io.Discard, s) }
	const conn, stream = true, false
	for name, c := range map[string]struct {
		script func(p *peer)
		ends   bool
		code   http2.ErrCode
	}{
		"data on stream 0":      {func(p *peer) { p.fr.WriteData(0, false, []byte("x")) }, conn, http2.ErrCodeProtocol},
		"data on idle stream":   {func(p *peer) { p.fr.WriteData(7, false, []byte("x")) }, conn, http2.ErrCodeProtocol},
		"window update on idle": {func(p *peer) { p.fr.WriteWindowUpdate(9, 1) }, conn, http2.ErrCodeProtocol},
		"reset of idle stream":  {func(p *peer) { p.fr.WriteRSTStream(9, http2.ErrCodeCancel) }, conn, http2.ErrCodeProtocol},
		"even stream number":    {func(p *peer) { p.connect(2) }, conn, http2.ErrCodeProtocol},
		"push promise": {func(p *peer) {
			p.fr.WriteRawFrame(http2.FramePushPromise, http2.FlagPushPromiseEndHeaders, 1, []byte{0, 0, 0, 2})
		}, conn, http2.ErrCodeProtocol},
		"continuation alone":     {func(p *peer) { p.fr.WriteContinuation(1, true, nil) }, conn, http2.ErrCodeProtocol},
		"bad settings length":    {func(p *peer) { p.fr.WriteRawFrame(http2.FrameSettings, 0, 0, []byte{1}) }, conn, http2.ErrCodeFrameSize},
		"bad ping length":        {func(p *peer) { p.fr.WriteRawFrame(http2.FramePing, 0, 0, []byte{1}) }, conn, http2.ErrCodeFrameSize},
		"initial window too big": {func(p *peer) { p.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 31}) }, conn, http2.ErrCodeFlowControl},
		"connection window":      {func(p *peer) { p.fr.WriteWindowUpdate(0, 1<<31-1) }, conn, http2.ErrCodeFlowControl},
		"frame over the maximum": {func(p *peer) { p.fr.WriteRawFrame(0xee, 0, 1, make([]byte, 1<<20+1)) }, conn, http2.ErrCodeFrameSize},
		"huge ping":              {func(p *peer) { p.fr.WriteRawFrame(http2.FramePing, 0, 0, make([]byte, 1<<17)) }, conn, http2.ErrCodeFrameSize},
		"broken header block": {func(p *peer) {
			p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, EndHeaders: true})
		}, conn, http2.ErrCodeCompression},
		"padding over the frame": {func(p *peer) {
			p.connect(1)
			p.fr.WriteRawFrame(http2.FrameData, http2.FlagDataPadded, 1, []byte{9, 1})
		}, conn, http2.ErrCodeProtocol},
		"continuation flood": {func(p *peer) {
			p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1})
			repeat(p, 1e4, func() error { return p.fr.WriteContinuation(1, false, nil) })
		}, conn, http2.ErrCodeEnhanceYourCalm},
		"ping flood":       {func(p *peer) { repeat(p, 1e5, func() error { return p.fr.WritePing(false, [8]byte{}) }) }, conn, http2.ErrCodeEnhanceYourCalm},
		"settings flood":   {func(p *peer) { repeat(p, 1e5, func() error { return p.fr.WriteSettings() }) }, conn, http2.ErrCodeEnhanceYourCalm},
		"empty data flood": {func(p *peer) { p.connect(1); repeat(p, 1e5, func() error { return p.fr.WriteData(1, false, nil) }) }, conn, http2.ErrCodeEnhanceYourCalm},
		"priority flood": {func(p *peer) {
			repeat(p, 1e5, func() error { return p.fr.WritePriority(1, http2.PriorityParam{StreamDep: 3}) })
		}, conn, http2.ErrCodeEnhanceYourCalm},
		"rapid reset": {func(p *peer) {
			id := uint32(1)
			repeat(p, 1e5, func() error { p.connect(id); id += 2; return p.fr.WriteRSTStream(id-2, http2.ErrCodeCancel) })
		}, conn, http2.ErrCodeEnhanceYourCalm},
		"header list over limit": {func(p *peer) {
			p.headers(1, false, ":method", "CONNECT", ":authority", "1.2.3.4:5", "baggage", string(bytes.Repeat([]byte("\x7f"), 40<<10)), "b", string(bytes.Repeat([]byte("{"), 40<<10)))
		}, conn, http2.ErrCodeFrameSize},
		"not CONNECT": {func(p *peer) {
			p.headers(1, false, ":method", "GET", ":scheme", "https", ":path", "/", ":authority", "a:1")
		}, stream, http2.ErrCodeNo},
		"CONNECT with path":      {func(p *peer) { p.headers(1, false, ":method", "CONNECT", ":path", "/", ":authority", "a:1") }, stream, http2.ErrCodeProtocol},
		"upper-case field":       {func(p *peer) { p.headers(1, false, ":method", "CONNECT", ":authority", "a:1", "Baggage", "x") }, stream, http2.ErrCodeProtocol},
		"stream window overflow": {func(p *peer) { p.connect(1); p.fr.WriteWindowUpdate(1, 1<<31-1) }, stream, http2.ErrCodeFlowControl},
		"zero window update":     {func(p *peer) { p.connect(1); p.fr.WriteWindowUpdate(1, 0) }, stream, http2.ErrCodeProtocol},
		"trailers without end":   {func(p *peer) { p.connect(1); p.headers(1, false, "a", "b") }, stream, http2.ErrCodeProtocol},
		"data after end":         {func(p *peer) { p.connect(1); p.fr.WriteData(1, true, nil); p.fr.WriteData(1, false, []byte("x")) }, stream, http2.ErrCodeStreamClosed},
		"unknown frames are fine": {func(p *peer) {
			p.connect(1)
			p.fr.WriteRawFrame(0xee, 0, 1, make([]byte, 100))
			p.fr.WriteRSTStream(1, http2.ErrCodeCancel)
			p.headers(3, false, ":method", "GET")
		}, stream, http2.ErrCodeNo},
	} {
		t.Run(name, func(t *testing.T) {
			handle := hold
			if name == "data after end" {
				handle = func(s *Stream, _ *Head) { s.Accept(Baggage{}); <-s.Done() }
			}
			if name == "rapid reset" {
				handle = func(s *Stream, _ *Head) { <-s.Done() }
			}
			againstServer(t, Config{StreamWindow: 1 << 20}, handle, func(p *peer, run func() error) {
				c.script(p)
				synctest.Wait()
				gone, code := p.ended()
				if !c.ends {
					if gone {
						t.Fatalf("the connection ended with %v", code)
					}
					if c.code == http2.ErrCodeNo && !p.saw("HEADERS 400") || c.code != http2.ErrCodeNo && !p.saw("RST_STREAM "+c.code.String()) {
						t.Errorf("the peer saw %v, want %v", p.frames, c.code)
					}
					return
				}
				if err := run(); err == nil || !gone || code != c.code {
					t.Errorf("ended %v with %v, %v; want %v", gone, code, err, c.code)
				}
			})
		})
	}
}

func repeat(p *peer, n int, f func() error) {
	for range n {
		if f() != nil {
			return
		}
	}
}

func TestFlowControlIsEnforced(t *testing.T) {
	m := new(Metrics)
	againstServer(t, Config{StreamWindow: 1000, StreamWindowMax: 1000, Metrics: m}, func(s *Stream, _ *Head) { s.Accept(Baggage{}); <-s.Done() }, func(p *peer, _ func() error) {
		p.connect(1)
		p.fr.WriteData(1, false, make([]byte, 1000))
		synctest.Wait()
		if p.saw("RST_STREAM FLOW_CONTROL_ERROR") || p.saw("WINDOW_UPDATE") && p.count("WINDOW_UPDATE") > 1 {
			t.Errorf("within the window: %v", p.frames)
		}
		if q := m.QueuedBytes.Load(); q != 1000 {
			t.Errorf("%d bytes queued", q)
		}
		p.fr.WriteData(1, false, []byte("x"))
		synctest.Wait()
		if !p.saw("RST_STREAM FLOW_CONTROL_ERROR") {
			t.Errorf("over the window: %v", p.frames)
		}
	})
}

func TestPaddingReturnsCredit(t *testing.T) {
	againstServer(t, Config{StreamWindow: 1000, StreamWindowMax: 1000}, func(s *Stream, _ *Head) { s.Accept(Baggage{}); io.Copy(io.Discard, s) }, func(p *peer, _ func() error) {
		p.connect(1)
		for range 20 {
			p.fr.WriteDataPadded(1, false, []byte("x"), make([]byte, 98))
			synctest.Wait()
		}
		if p.saw("RST_STREAM FLOW_CONTROL_ERROR") {
			t.Errorf("the window was not restored: %v", p.frames)
		}
	})
}

func TestRefusalTellsTheClientToStop(t *testing.T) {
	againstServer(t, Config{}, refuse, func(p *peer, _ func() error) {
		p.connect(1)
		synctest.Wait()
		if !p.saw("HEADERS 401") || !p.saw("RST_STREAM NO_ERROR") {
			t.Errorf("got %v", p.frames)
		}
		p.fr.WriteData(1, false, []byte("was on its way")) // ignored
		p.connect(3)
		synctest.Wait()
		if gone, _ := p.ended(); gone || p.count("HEADERS 401") != 2 {
			t.Errorf("got %v", p.frames)
		}
	})
}

func TestStreamsOverTheLimitAreRefused(t *testing.T) {
	m := new(Metrics)
	againstServer(t, Config{MaxStreams: 2, Metrics: m}, func(s *Stream, _ *Head) { <-s.Done() }, func(p *peer, _ func() error) {
		for id := uint32(1); id < 9; id += 2 {
			p.connect(id)
		}
		synctest.Wait()
		if p.count("RST_STREAM REFUSED_STREAM") != 2 || m.StreamsRefused.Load() != 2 {
			t.Errorf("got %v", p.frames)
		}
	})
}

// TestLongHeaderListIsAnswered: a list that is small on the wire and grows past the limit when HPACK unpacks it is no request.
func TestLongHeaderListIsAnswered(t *testing.T) {
	served := func(s *Stream, _ *Head) { t.Error("served"); s.Refuse(StatusDenied) }
	againstServer(t, Config{}, served, func(p *peer, _ func() error) {
		list := []string{":method", "CONNECT", ":authority", "10.0.0.1:80"}
		for range 100 {
			list = append(list, "x", string(bytes.Repeat([]byte("v"), 1000)))
		}
		p.headers(1, true, list...)
		synctest.Wait()
		if !p.saw("HEADERS 431") {
			t.Errorf("saw %v", p.frames)
		}
	})
}
