package hostile

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"github.com/ambit-mesh/ambit/test/netlab/mesh"
)

// frames holds a genuine certificate and breaks HTTP/2. The connection ends with the error that the protocol names, which is
// counted, or floods are.
func (w *world) frames(t *testing.T) {
	stolen := w.genuine(t)
	repeat := func(n int, send func() error) error {
		for range n {
			if err := send(); err != nil {
				return nil // hung up on: what is wanted
			}
		}
		return nil
	}
	const broken, flood = "ambit_ztunnel_hbone_protocol_errors", "ambit_ztunnel_hbone_floods"
	for _, attack := range []struct {
		name, counter string
		send          func(p *peer) error
		want          string
	}{
		{"no preface", broken, func(p *peer) error {
			_, err := io.WriteString(p.tls, strings.Repeat("garbage ", 100))
			return err
		}, "PROTOCOL_ERROR"},
		{"frame too large", broken, func(p *peer) error {
			begun(p)
			return p.WriteRawFrame(http2.FrameData, 0, 1, make([]byte, 4<<20))
		}, "FRAME_SIZE_ERROR"},
		{"DATA on an idle stream", broken, func(p *peer) error { begun(p); return p.WriteData(9, false, []byte("x")) }, "PROTOCOL_ERROR"},
		{"even stream", broken, func(p *peer) error {
			begun(p)
			return p.WriteHeaders(http2.HeadersFrameParam{StreamID: 2, BlockFragment: p.fields(":method", "CONNECT"), EndHeaders: true})
		}, "PROTOCOL_ERROR"},
		{"bad HPACK", broken, func(p *peer) error {
			begun(p)
			return p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0x7f}, EndHeaders: true})
		}, "COMPRESSION_ERROR"},
		{"one huge header", broken, func(p *peer) error {
			begun(p)
			_, err := p.open(":method", "CONNECT", ":authority", at(w.victim, echoPort), "x-huge", strings.Repeat("x", 100<<10))
			return err
		}, "COMPRESSION_ERROR"},
		{"too many headers", broken, func(p *peer) error {
			begun(p)
			pairs := []string{":method", "CONNECT", ":authority", at(w.victim, echoPort)}
			for i := range 200 {
				pairs = append(pairs, fmt.Sprintf("x-huge-%d", i), strings.Repeat("x", 1<<10))
			}
			_, err := p.open(pairs...)
			return err
		}, "PROTOCOL_ERROR"},
		{"window overflow", broken, func(p *peer) error {
			begun(p)
			return repeat(2, func() error { return p.WriteWindowUpdate(0, 1<<31-1) })
		}, "FLOW_CONTROL_ERROR"},
		{"window setting too large", broken, func(p *peer) error {
			begun(p)
			return p.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 31})
		}, "FLOW_CONTROL_ERROR"},
		{"lone CONTINUATION", broken, func(p *peer) error { begun(p); return p.WriteContinuation(1, true, []byte("x")) }, "PROTOCOL_ERROR"},
		{"push", broken, func(p *peer) error {
			begun(p)
			return p.WritePushPromise(http2.PushPromiseParam{StreamID: 1, PromiseID: 2, EndHeaders: true})
		}, "PROTOCOL_ERROR"},
		{"endless CONTINUATION", "", func(p *peer) error {
			begun(p)
			err := p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.fields(":method", "CONNECT")})
			if err != nil {
				return err
			}
			return repeat(20_000, func() error { return p.WriteContinuation(1, false, make([]byte, 1024)) })
		}, ""},
		{"ping flood", flood, func(p *peer) error {
			begun(p)
			return repeat(100_000, func() error { return p.WritePing(false, [8]byte{}) })
		}, ""},
		{"rapid reset", flood, func(p *peer) error {
			begun(p)
			return repeat(100_000, func() error {
				id, err := p.open(":method", "CONNECT", ":authority", at(w.victim, echoPort))
				if err == nil {
					err = p.WriteRSTStream(id, http2.ErrCodeCancel)
				}
				return err
			})
		}, ""},
	} {
		t.Run(attack.name, func(t *testing.T) {
			run := func() {
				p := newPeer(t, w.stranger, w.victim, stolen)
				answers := make(chan string, 1)
				go func() { answers <- p.outcome(0) }() // read, or the flood's answers would stall it
				if err := attack.send(p); err != nil {
					t.Logf("while attacking: %v", err)
				}
				if got := <-answers; attack.want != "" && got != "goaway "+attack.want || got == "nothing" || strings.HasPrefix(got, "status") {
					t.Errorf("answered with %q, want %s", got, attack.want)
				}
			}
			if attack.counter == "" {
				run()
			} else {
				w.counted(t, "n2", attack.counter, nil, 1, run)
			}
		})
	}
}

// begun sends preface and settings; what fails here shows in what comes next.
func begun(p *peer) {
	_, _ = io.WriteString(p.tls, http2.ClientPreface)
	_ = p.WriteSettings()
}

// connects holds a genuine certificate and asks for what it must not get. One connection serves for all.
func (w *world) connects(t *testing.T) {
	var huge []string
	for i := range 62 { // just over 64 KiB, as HTTP/2 counts
		huge = append(huge, fmt.Sprintf("x-huge-%d", i), strings.Repeat("x", 1<<10))
	}
	const refused, malformed = "ambit_ztunnel_connections_refused", "ambit_ztunnel_hbone_streams_malformed"
	p := newPeer(t, w.stranger, w.victim, w.genuine(t)).begin(t)
	if got := p.connect(at(w.victim, echoPort)); got != "status 200" {
		t.Fatalf("the certificate is no good: %s", got)
	}
	for _, attack := range []struct {
		name, authority string
		want            string
		counter, reason string
	}{
		{"no authority", "", "status 400", malformed, ""},
		{"no port", w.victim.IP4().String(), "status 400", malformed, ""},
		{"port 0", at(w.victim, 0), "status 400", malformed, ""},
		{"no host", ":80", "status 400", malformed, ""},
		{"forged line", "a\r\nb:80", "reset PROTOCOL_ERROR", malformed, ""},
		{"zone", "[fe80::1%eth0]:80", "status 400", malformed, ""},
		{"another pod", at(w.neighbour, echoPort), "status 400", refused, "AuthorityMismatch"},
		{"loopback", "127.0.0.1:15000", "status 400", refused, "AuthorityMismatch"},
		{"unknown name", "no.such.name:80", "status 503", refused, "ServiceUnknown"},
		{"mesh port 15001", at(w.victim, 15001), "status 503", refused, "IllegalPort"},
		{"mesh port 15006", at(w.victim, 15006), "status 503", refused, "IllegalPort"},
		{"mesh port 15008", at(w.victim, 15008), "status 503", refused, "IllegalPort"},
		{"mesh port 15053", at(w.victim, 15053), "status 503", refused, "IllegalPort"},
		{"admin port", at(w.victim, 15000), "status 503", "", ""}, // nobody listens in the pod
	} {
		t.Run(attack.name, func(t *testing.T) {
			labels := map[string]string{}
			if attack.reason != "" {
				labels["reason"] = attack.reason
			}
			mark := w.mark(t, mesh.ZtunnelName("n2"))
			run := func() {
				if got := p.connect(attack.authority); got != attack.want {
					t.Errorf("answered with %q, want %q", got, attack.want)
				}
			}
			if attack.counter == "" {
				run()
				return
			}
			w.counted(t, "n2", attack.counter, labels, 1, run)
			if attack.reason != "" {
				w.logged(t, mesh.ZtunnelName("n2"), mark, attack.reason, "sa/attacker")
			}
		})
	}
	for _, attack := range []struct {
		name  string
		pairs []string
		want  string
	}{
		{"not CONNECT", []string{":method", "GET", ":scheme", "https", ":path", "/config_dump", ":authority", at(w.victim, 15000)}, "status 400"},
		{"extended CONNECT", []string{":method", "CONNECT", ":protocol", "websocket", ":scheme", "https", ":path", "/", ":authority", at(w.victim, 80)}, "status 400"},
		{"two authorities", []string{":method", "CONNECT", ":authority", at(w.victim, echoPort), ":authority", at(w.guarded, echoPort)}, "reset PROTOCOL_ERROR"},
		{"huge headers", append([]string{":method", "CONNECT", ":authority", at(w.victim, echoPort)}, huge...), "status 431"},
	} {
		t.Run(attack.name, func(t *testing.T) {
			w.counted(t, "n2", malformed, nil, 1, func() {
				id, err := p.open(attack.pairs...)
				must(t, err)
				if got := p.outcome(id); got != attack.want {
					t.Errorf("answered with %q, want %q", got, attack.want)
				}
			})
		})
	}
	if got := p.connect(at(w.victim, echoPort)); got != "status 200" {
		t.Errorf("afterwards: %s", got)
	}
}

// streams opens more streams on one tunnel than a peer may have. Those within the limit work, the others are refused.
func (w *world) streams(t *testing.T) {
	const limit, more = 200, 50
	p := newPeer(t, w.stranger, w.victim, w.genuine(t)).begin(t)
	answers := map[string]int{}
	w.counted(t, "n2", "ambit_ztunnel_hbone_streams_refused", nil, more, func() {
		for range limit + more {
			answers[p.connect(at(w.victim, echoPort))]++
		}
	})
	if answers["status 200"] != limit || answers["reset REFUSED_STREAM"] != more {
		t.Errorf("%d streams at once: %v", limit+more, answers)
	}
}
