package hbone

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestStalledHandshakesEnd(t *testing.T) {
	serverCfg, clientCfg := testTLS()
	for name, stall := range map[string]func(t *testing.T, nc net.Conn){
		"says nothing":  func(*testing.T, net.Conn) {},
		"half a record": func(_ *testing.T, nc net.Conn) { nc.Write([]byte{22, 3, 1, 1, 0, 1, 0}) },
		"one byte":      func(_ *testing.T, nc net.Conn) { nc.Write([]byte{22}) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := net.Pipe()
				m := new(Metrics)
				h := Handshaker{Metrics: m}
				go stall(t, a)
				start := time.Now()
				_, err := h.Server(t.Context(), b, serverCfg)
				if !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != 10*time.Second {
					t.Errorf("%v after %v", err, time.Since(start))
				}
				if m.HandshakesFailed.Load() != 1 || m.HandshakesPending.Load() != 0 {
					t.Error("not counted")
				}
				a.Close()
			})
		})
	}
	t.Run("client", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a, b := net.Pipe()
			go io.Copy(io.Discard, b)
			start := time.Now()
			_, err := new(Handshaker).Client(t.Context(), a, clientCfg)
			if !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != 10*time.Second {
				t.Errorf("%v after %v", err, time.Since(start))
			}
		})
	})
	t.Run("cancelled", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			_, b := net.Pipe()
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, cancel)
			if _, err := new(Handshaker).Server(ctx, b, serverCfg); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
		})
	})
}

// TestHalfOpenConnectionsAreCheap holds thousands of connections that say nothing: they cost little, the one over the limit
// is refused, and honest peers are served meanwhile and after.
func TestHalfOpenConnectionsAreCheap(t *testing.T) {
	const n = 4000 // twice that many files, of 20,000
	serverCfg, clientCfg := testTLS()
	m := new(Metrics)
	h := Handshaker{Metrics: m, Limit: n + 1, Timeout: time.Hour}
	ctx, cancel := context.WithCancel(t.Context())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	results := make(chan error, 2*n)
	dial := func() net.Conn {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		s, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			tc, err := h.Server(ctx, s, serverCfg)
			if err == nil {
				tc.hangUp()
			}
			results <- err
		})
		return c
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for range n {
		dial()
	}
	for m.HandshakesPending.Load() < n {
		runtime.Gosched()
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	per := (after.HeapAlloc + after.StackInuse - before.HeapAlloc - before.StackInuse) / n
	t.Logf("%d bytes for each half-open connection, both ends", per)
	if per > 16<<10 {
		t.Errorf("%d bytes for each half-open connection", per)
	}
	honest := dial()
	c, err := new(Handshaker).Client(t.Context(), honest, clientCfg)
	if err != nil {
		t.Fatalf("an honest peer: %v", err)
	}
	c.hangUp()
	if err := <-results; err != nil {
		t.Errorf("an honest peer: %v", err)
	}
	dial()
	dial()
	if err := <-results; !errors.Is(err, ErrTooManyHandshakes) || m.HandshakesRefused.Load() != 1 {
		t.Errorf("over the limit: %v", err)
	}
}

func TestTunnelTLS(t *testing.T) {
	cfg := TunnelTLS(&tls.Config{MinVersion: tls.VersionTLS12})
	if cfg.MinVersion != tls.VersionTLS13 || len(cfg.NextProtos) != 1 || cfg.NextProtos[0] != "h2" {
		t.Errorf("%+v", cfg)
	}
	a, b := tlsPair(t)
	for _, c := range []*TLSConn{a, b} {
		s := c.ConnectionState()
		if s.Version != tls.VersionTLS13 || s.NegotiatedProtocol != "h2" || s.CurveID != tls.X25519MLKEM768 {
			t.Errorf("version %x, protocol %q, curve %v", s.Version, s.NegotiatedProtocol, s.CurveID)
		}
		c.hangUp()
	}
}
