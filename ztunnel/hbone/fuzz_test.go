package hbone

import (
	"bytes"
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// seedFrames is a short conversation of every frame type.
func seedFrames(server bool) []byte {
	var b, h bytes.Buffer
	fr := http2.NewFramer(&b, nil)
	enc := hpack.NewEncoder(&h)
	fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 100}, http2.Setting{ID: http2.SettingMaxFrameSize, Val: 20000})
	if server {
		enc.WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
	} else {
		for _, f := range testHead.AppendFields(nil) {
			enc.WriteField(f)
		}
	}
	block := h.Bytes()
	fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block[:1]})
	fr.WriteContinuation(1, true, block[1:])
	fr.WriteData(1, false, []byte("hello"))
	fr.WriteDataPadded(1, false, []byte("x"), make([]byte, 3))
	fr.WriteWindowUpdate(0, 10)
	fr.WriteWindowUpdate(1, 10)
	fr.WritePing(false, [8]byte{1})
	fr.WriteSettingsAck()
	fr.WritePriority(3, http2.PriorityParam{StreamDep: 1})
	fr.WriteData(1, true, []byte("bye"))
	fr.WriteRSTStream(1, http2.ErrCodeCancel)
	fr.WriteGoAway(1, http2.ErrCodeNo, []byte("why"))
	return b.Bytes()
}

// feed writes raw to nc, hangs up, and swallows what comes back.
func feed(wg *sync.WaitGroup, nc net.Conn, raw []byte) {
	wg.Go(func() {
		nc.Write(raw)
		synctest.Wait()
		nc.Close()
	})
	wg.Go(func() { io.Copy(io.Discard, nc) })
}

// FuzzServer feeds arbitrary bytes to a server after the preface. It must end, without panic, with nothing left behind; the
// bubble reports goroutines that stay.
func FuzzServer(f *testing.F) {
	seed := seedFrames(false)
	f.Add(seed)
	f.Add(seed[:len(seed)/2])
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		synctest.Test(t, func(t *testing.T) {
			a, b := net.Pipe()
			m := new(Metrics)
			var wg sync.WaitGroup
			feed(&wg, a, append([]byte(http2.ClientPreface), raw...))
			ServeConn(t.Context(), b, Config{StreamWindow: 100, StreamWindowMax: 200, Metrics: m}, handler(echo))
			wg.Wait()
			if n := m.ConnsOpen.Load(); n != 0 {
				t.Fatalf("%d connections open", n)
			}
		})
	})
}

// FuzzClient feeds arbitrary bytes to a client with two CONNECTs pending.
func FuzzClient(f *testing.F) {
	seed := seedFrames(true)
	f.Add(seed)
	f.Add(seed[:len(seed)/2])
	f.Fuzz(func(t *testing.T, raw []byte) {
		synctest.Test(t, func(t *testing.T) {
			a, b := net.Pipe()
			var wg sync.WaitGroup
			cc := NewClientConn(a, Config{StreamWindow: 100})
			feed(&wg, b, raw)
			for range 2 {
				wg.Go(func() {
					h := testHead
					s, _, err := cc.Connect(t.Context(), &h)
					if err == nil {
						s.Write([]byte("hello"))
						io.Copy(io.Discard, s)
						s.Close()
					}
				})
			}
			cc.Run(t.Context())
			wg.Wait()
		})
	})
}

// TestEveryTruncation cuts the conversation after each byte, at both ends.
func TestEveryTruncation(t *testing.T) {
	for _, server := range []bool{false, true} {
		seed := seedFrames(server)
		for n := range len(seed) + 1 {
			synctest.Test(t, func(t *testing.T) {
				a, b := net.Pipe()
				var wg sync.WaitGroup
				if server {
					cc := NewClientConn(a, Config{})
					feed(&wg, b, seed[:n])
					wg.Go(func() {
						h := testHead
						if s, _, err := cc.Connect(t.Context(), &h); err == nil {
							io.Copy(io.Discard, s)
						}
					})
					cc.Run(t.Context())
				} else {
					full := append([]byte(http2.ClientPreface), seed...)
					feed(&wg, b, full[:n])
					ServeConn(t.Context(), a, Config{}, handler(echo))
				}
				wg.Wait()
			})
		}
	}
}

// FuzzServerTLS feeds arbitrary bytes to a server's handshake.
func FuzzServerTLS(f *testing.F) {
	f.Add([]byte{22, 3, 1, 0, 5, 1, 0, 0, 1, 0})
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		a, b := net.Pipe()
		var wg sync.WaitGroup
		wg.Go(func() {
			a.Write(raw)
			a.Close()
		})
		wg.Go(func() { io.Copy(io.Discard, a) })
		serverCfg, _ := testTLS()
		if _, err := new(Handshaker).Server(context.WithoutCancel(t.Context()), b, serverCfg); err == nil {
			t.Fatal("a handshake out of nothing")
		}
		wg.Wait()
	})
}
