package hbone

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
)

// asServer runs script as the server of a real client, in a bubble.
func asServer(t *testing.T, cfg Config, script func(p *peer, cc *ClientConn)) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		cc := NewClientConn(a, cfg)
		var wg sync.WaitGroup
		ctx, cancel := context.WithCancel(t.Context())
		wg.Go(func() { cc.Run(ctx) })
		p := newPeer(t, b, true, false)
		p.fr.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 3})
		synctest.Wait()
		script(p, cc)
		cancel()
		wg.Wait()
	})
}

// pending starts a CONNECT and returns its error.
func pending(t *testing.T, cc *ClientConn) <-chan error {
	ch := make(chan error, 1)
	h := testHead
	go func() {
		_, _, err := cc.Connect(t.Context(), &h)
		ch <- err
	}()
	synctest.Wait()
	return ch
}

func TestClientHonoursTheServersLimit(t *testing.T) {
	asServer(t, Config{}, func(p *peer, cc *ClientConn) {
		a, b, c := pending(p.t, cc), pending(p.t, cc), pending(p.t, cc)
		if err := <-pending(p.t, cc); !errors.Is(err, ErrNotProcessed) {
			t.Errorf("fourth stream: %v", err)
		}
		p.headers(1, false, ":status", "200")
		p.fr.WriteRSTStream(3, http2.ErrCodeRefusedStream)
		p.headers(5, true, ":status", "503")
		if err := <-a; err != nil {
			t.Error(err)
		}
		if err := <-b; !errors.Is(err, ErrNotProcessed) {
			t.Errorf("refused stream: %v", err)
		}
		var se *StatusError
		if err := <-c; !errors.As(err, &se) || se.Status != 503 {
			t.Errorf("503: %v", err)
		}
	})
}

func TestConnectIsAnsweredInTime(t *testing.T) {
	asServer(t, Config{PingInterval: time.Hour}, func(p *peer, cc *ClientConn) {
		start := time.Now()
		if err := <-pending(p.t, cc); !errors.Is(err, ErrTimeout) || time.Since(start) != 30*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		synctest.Wait()
		if !p.saw("RST_STREAM CANCEL") {
			t.Errorf("%v", p.frames)
		}
	})
}

func TestGoAwayMakesPendingConnectsResendable(t *testing.T) {
	asServer(t, Config{}, func(p *peer, cc *ClientConn) {
		a, b := pending(p.t, cc), pending(p.t, cc)
		start := time.Now()
		p.fr.WriteGoAway(1, http2.ErrCodeNo, nil)
		if err := <-b; !errors.Is(err, ErrNotProcessed) || time.Since(start) != 0 {
			t.Errorf("above the last stream: %v after %v", err, time.Since(start))
		}
		// Istio's server never answers those that raced its drain.
		if err := <-a; !errors.Is(err, ErrNotProcessed) || time.Since(start) != 250*time.Millisecond {
			t.Errorf("not answered: %v after %v", err, time.Since(start))
		}
		if err := <-pending(p.t, cc); !errors.Is(err, ErrNotProcessed) {
			t.Errorf("after GOAWAY: %v", err)
		}
		<-p.eof // the client leaves with its last stream
	})
}

func TestStreamsOutliveGoAway(t *testing.T) {
	asServer(t, Config{}, func(p *peer, cc *ClientConn) {
		ch := make(chan *Stream, 1)
		h := testHead
		go func() {
			s, _, _ := cc.Connect(p.t.Context(), &h)
			ch <- s
		}()
		synctest.Wait()
		p.headers(1, false, ":status", "200")
		s := <-ch
		p.fr.WriteGoAway(1<<31-1, http2.ErrCodeNo, nil)
		p.fr.WriteGoAway(1, http2.ErrCodeNo, nil)
		<-time.After(time.Second)
		p.fr.WriteData(1, true, []byte("still here"))
		if got, err := io.ReadAll(s); string(got) != "still here" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		s.CloseWrite()
		<-p.eof
	})
}

func TestClientAgainstOffenders(t *testing.T) {
	for name, c := range map[string]struct {
		script func(p *peer)
		code   http2.ErrCode
	}{
		"headers on idle stream": {func(p *peer) { p.headers(77, false, ":status", "200") }, http2.ErrCodeProtocol},
		"push promise":           {func(p *peer) { p.fr.WriteRawFrame(http2.FramePushPromise, 4, 1, []byte{0, 0, 0, 2}) }, http2.ErrCodeProtocol},
		"list over 16 KiB":       {func(p *peer) { p.headers(1, false, ":status", "200", "x", string(bytes.Repeat([]byte{'!'}, 70<<10))) }, http2.ErrCodeProtocol},
		"goaway flood":           {func(p *peer) { repeat(p, 1e5, func() error { return p.fr.WriteGoAway(1<<31-1, 0, nil) }) }, http2.ErrCodeEnhanceYourCalm},
	} {
		t.Run(name, func(t *testing.T) {
			asServer(t, Config{DrainWait: time.Hour, ConnectTimeout: time.Hour}, func(p *peer, cc *ClientConn) {
				answer := pending(p.t, cc)
				c.script(p)
				if err := <-answer; err == nil {
					t.Error("the CONNECT succeeded")
				}
				<-p.eof
				if _, code := p.ended(); code != c.code {
					t.Errorf("ended with %v, want %v", code, c.code)
				}
			})
		})
	}
	for name, script := range map[string]func(p *peer){
		"data before headers": func(p *peer) { p.fr.WriteData(1, false, []byte("x")) },
		"no status":           func(p *peer) { p.headers(1, false, "a", "b") },
		"status 1000":         func(p *peer) { p.headers(1, false, ":status", "1000") },
		"interim with end":    func(p *peer) { p.headers(1, true, ":status", "100") },
	} {
		t.Run(name, func(t *testing.T) {
			asServer(t, Config{}, func(p *peer, cc *ClientConn) {
				answer := pending(p.t, cc)
				script(p)
				if err := <-answer; err == nil {
					t.Error("the CONNECT succeeded")
				}
				synctest.Wait()
				if gone, _ := p.ended(); gone || !p.saw("RST_STREAM PROTOCOL_ERROR") {
					t.Errorf("%v", p.frames)
				}
			})
		})
	}
}
