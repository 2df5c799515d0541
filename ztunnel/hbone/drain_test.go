package hbone

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
)

func TestServerDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		release := make(chan struct{})
		sc := NewServerConn(b, Config{}, handler(func(s *Stream, _ *Head) { s.Accept(Baggage{}); <-release; s.CloseWrite(); io.Copy(io.Discard, s) }))
		done := make(chan error, 1)
		go func() { done <- sc.Run(t.Context()) }()
		p := newPeer(t, a, false, false)
		io.WriteString(a, http2.ClientPreface)
		p.fr.WriteSettings()
		p.connect(1)
		synctest.Wait()
		sc.Drain()
		synctest.Wait()
		if p.count("GOAWAY") != 1 || !p.saw("PING") {
			t.Fatalf("first stage: %v", p.frames)
		}
		p.connect(3) // raced the drain: must be answered
		synctest.Wait()
		if p.count("HEADERS 200") != 2 {
			t.Fatalf("a CONNECT that raced the drain: %v", p.frames)
		}
		p.fr.WritePing(true, drainPing)
		synctest.Wait()
		if p.count("GOAWAY") != 2 {
			t.Fatalf("second stage: %v", p.frames)
		}
		p.connect(5)
		synctest.Wait()
		if !p.saw("RST_STREAM REFUSED_STREAM") {
			t.Fatalf("a CONNECT after the drain: %v", p.frames)
		}
		close(release)
		p.fr.WriteData(1, true, nil)
		p.fr.WriteData(3, true, nil)
		if err := <-done; err != nil {
			t.Errorf("drained with %v", err)
		}
	})
}

func TestDrainDoesNotNeedThePingsAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		sc := NewServerConn(b, Config{}, handler(refuse))
		done := make(chan error, 1)
		go func() { done <- sc.Run(t.Context()) }()
		p := newPeer(t, a, false, true)
		io.WriteString(a, http2.ClientPreface)
		p.fr.WriteSettings()
		synctest.Wait()
		sc.Drain()
		start := time.Now()
		if err := <-done; err != nil || time.Since(start) > drainPingTimeout+time.Second {
			t.Errorf("drained with %v after %v", err, time.Since(start))
		}
	})
}

func TestSilentPeersAreDropped(t *testing.T) {
	t.Run("no preface", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a, b := net.Pipe()
			m := new(Metrics)
			start := time.Now()
			go io.Copy(io.Discard, a)
			err := ServeConn(t.Context(), b, Config{Metrics: m}, handler(refuse))
			if !errors.Is(err, ErrTimeout) || time.Since(start) != 10*time.Second || m.SettingsTimeouts.Load() != 1 {
				t.Errorf("%v after %v", err, time.Since(start))
			}
		})
	})
	t.Run("no settings from the server", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a, b := net.Pipe()
			start := time.Now()
			go io.Copy(io.Discard, b)
			if err := NewClientConn(a, Config{}).Run(t.Context()); !errors.Is(err, ErrTimeout) || time.Since(start) != 10*time.Second {
				t.Errorf("%v after %v", err, time.Since(start))
			}
		})
	})
	t.Run("no pong", func(t *testing.T) {
		m := new(Metrics)
		againstServer(t, Config{Metrics: m}, refuse, func(p *peer, run func() error) {
			start := time.Now()
			if err := run(); !errors.Is(err, ErrTimeout) || time.Since(start) != 30*time.Second || m.PingTimeouts.Load() != 1 {
				t.Errorf("%v after %v", err, time.Since(start))
			}
			if p.count("PING") != 1 {
				t.Errorf("%v", p.frames)
			}
		})
	})
	t.Run("data counts as life", func(t *testing.T) {
		againstServer(t, Config{}, func(s *Stream, _ *Head) { s.Accept(Baggage{}); io.Copy(io.Discard, s) }, func(p *peer, run func() error) {
			p.connect(1)
			for range 100 {
				<-time.After(5 * time.Second)
				p.fr.WriteData(1, false, []byte("x"))
			}
			synctest.Wait()
			if gone, _ := p.ended(); gone || p.count("PING") != 0 {
				t.Errorf("%v", p.frames)
			}
		})
	})
	t.Run("reads nothing", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a, b := net.Pipe()
			m := new(Metrics)
			start := time.Now()
			done := make(chan error, 1)
			go func() {
				done <- ServeConn(t.Context(), b, Config{Metrics: m}, handler(func(s *Stream, _ *Head) { s.Accept(Baggage{}) }))
			}()
			fr := http2.NewFramer(a, a)
			io.WriteString(a, http2.ClientPreface)
			fr.WriteSettings()
			var sender sync.WaitGroup
			sender.Go(func() { // keeps sending, never reads
				for fr.WriteRawFrame(0xee, 0, 0, nil) == nil {
					<-time.After(time.Second)
				}
			})
			if err := <-done; !errors.Is(err, ErrTimeout) || time.Since(start) > time.Minute || m.StalledWrites.Load() != 1 {
				t.Errorf("%v after %v", err, time.Since(start))
			}
			a.Close()
			sender.Wait()
		})
	})
}
