package hbone

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/net/http2"
)

// echo accepts and sends back what comes until the end of stream.
func echo(s *Stream, _ *Head) {
	if s.Accept(Baggage{Workload: "echo"}) != nil {
		return
	}
	buf := make([]byte, 32<<10)
	for {
		n, err := s.Read(buf)
		if n > 0 {
			if _, err := s.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			break
		}
	}
	s.CloseWrite()
}

func TestConnectCarriesHeads(t *testing.T) {
	heads := make(chan Head, 1)
	tn := tlsTunnel(t, Config{}, func(s *Stream, h *Head) { heads <- *h; s.Accept(Baggage{Service: "dst"}) })
	h := testHead
	s, resp, err := tn.client.Connect(t.Context(), &h)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got := <-heads; got != testHead {
		t.Errorf("got %+v", got)
	}
	if resp.Status != 200 || resp.Baggage.Service != "dst" {
		t.Errorf("response %+v", resp)
	}
}

func TestRefusalsCarryTheirStatus(t *testing.T) {
	for _, status := range []int{StatusBadRequest, StatusDenied, StatusUnavailable} {
		tn := tlsTunnel(t, Config{}, func(s *Stream, _ *Head) { s.Refuse(status) })
		h := testHead
		for range 3 {
			_, resp, err := tn.client.Connect(t.Context(), &h)
			var se *StatusError
			if !errors.As(err, &se) || se.Status != status || resp.Status != status {
				t.Errorf("got %+v, %v", resp, err)
			}
		}
		if open, free := tn.client.Load(); open != 0 || free != 100 {
			t.Errorf("%d open, %d free after refusals", open, free)
		}
		tn.stop()
	}
	t.Run("handler says nothing", func(t *testing.T) {
		tn := tlsTunnel(t, Config{}, func(*Stream, *Head) {})
		h := testHead
		_, resp, _ := tn.client.Connect(t.Context(), &h)
		if resp.Status != StatusUnavailable {
			t.Errorf("got %+v", resp)
		}
	})
	t.Run("bad authority", func(t *testing.T) {
		tn := tlsTunnel(t, Config{}, echo)
		_, resp, _ := tn.client.Connect(t.Context(), &Head{Authority: "nowhere"})
		if resp.Status != StatusBadRequest {
			t.Errorf("got %+v", resp)
		}
	})
}

// TestManyStreamsByteExact sends random pieces over many streams at once and compares what comes back.
func TestManyStreamsByteExact(t *testing.T) {
	m := new(Metrics)
	tn := tlsTunnel(t, Config{Metrics: m}, echo)
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 7))
			for range 4 {
				s := open(t, tn.client)
				sent, got := sha256.New(), sha256.New()
				size := r.IntN(300 << 10)
				wg.Go(func() {
					buf := make([]byte, 150<<10)
					for left := size; left > 0; {
						n := min(left, 1+r.IntN(len(buf)))
						for j := range n {
							buf[j] = byte(r.Uint32())
						}
						sent.Write(buf[:n])
						if _, err := s.Write(buf[:n]); err != nil {
							t.Error(err)
							return
						}
						left -= n
					}
					s.CloseWrite()
				})
				n, err := io.Copy(got, s)
				if err != nil || n != int64(size) {
					t.Errorf("%d of %d bytes, %v", n, size, err)
				}
				if !bytes.Equal(sent.Sum(nil), got.Sum(nil)) {
					t.Error("bytes differ")
				}
			}
		})
	}
	wg.Wait()
	tn.stop()
	if n := m.StreamsOpen.Load(); n != 0 {
		t.Errorf("%d streams left", n)
	}
	if n := m.QueuedBytes.Load(); n != 0 {
		t.Errorf("%d bytes left in queues", n)
	}
}

// TestRelaysByteExact is the same through both relays and real sockets, both directions at once.
func TestRelaysByteExact(t *testing.T) {
	r := newRelays(t)
	m := new(Metrics)
	tn := tlsTunnel(t, Config{Metrics: m}, r.handle)
	var wg sync.WaitGroup
	for i := range 24 {
		wg.Go(func() {
			a, b := r.open(tn.client)
			for j, ends := range [][2]*net.TCPConn{{a, b}, {b, a}} {
				src, dst := ends[0], ends[1]
				sum := make(chan [32]byte, 1)
				wg.Go(func() {
					rnd := rand.New(rand.NewPCG(uint64(i), uint64(j)))
					data := make([]byte, rnd.IntN(3<<20))
					for k := range data {
						data[k] = byte(rnd.Uint32())
					}
					sum <- sha256.Sum256(data)
					for rest := data; len(rest) > 0; {
						n := min(len(rest), 1+rnd.IntN(200<<10))
						if _, err := src.Write(rest[:n]); err != nil {
							t.Error(err)
							return
						}
						rest = rest[n:]
					}
					src.CloseWrite()
				})
				wg.Go(func() {
					h := sha256.New()
					if _, err := io.Copy(h, dst); err != nil {
						t.Error(err)
					}
					if want := <-sum; !bytes.Equal(want[:], h.Sum(nil)) {
						t.Error("bytes differ")
					}
				})
			}
		})
	}
	wg.Wait()
	r.wg.Wait()
	for range 24 {
		if res := <-r.client; res != (Result{}) {
			t.Errorf("client relay: %+v", res)
		}
		if res := <-r.server; res != (Result{}) {
			t.Errorf("server relay: %+v", res)
		}
	}
	tn.stop()
	if n := m.QueuedBytes.Load(); n != 0 {
		t.Errorf("%d bytes left in queues", n)
	}
}

func TestHalfCloseBothWays(t *testing.T) {
	r := newRelays(t)
	tn := tlsTunnel(t, Config{}, r.handle)
	for name, swap := range map[string]bool{"client first": false, "server first": true} {
		t.Run(name, func(t *testing.T) {
			first, second := r.open(tn.client)
			if swap {
				first, second = second, first
			}
			first.Write([]byte("request"))
			first.CloseWrite()
			if got, err := io.ReadAll(second); string(got) != "request" || err != nil {
				t.Fatalf("%q, %v", got, err)
			}
			// The other direction lives on after the end of the first was seen.
			for range 3 {
				second.Write([]byte("answer"))
				if _, err := io.ReadFull(first, make([]byte, 6)); err != nil {
					t.Fatal(err)
				}
			}
			second.CloseWrite()
			if got, err := io.ReadAll(first); len(got) != 0 || err != nil {
				t.Fatalf("%q, %v", got, err)
			}
			if res := <-r.client; res != (Result{}) {
				t.Errorf("client relay: %+v", res)
			}
			if res := <-r.server; res != (Result{}) {
				t.Errorf("server relay: %+v", res)
			}
		})
	}
}

func TestTCPResetTravels(t *testing.T) {
	r := newRelays(t)
	tn := tlsTunnel(t, Config{}, r.handle)
	for name, swap := range map[string]bool{"from client": false, "from server": true} {
		for _, busy := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				a, b := r.open(tn.client)
				if swap {
					a, b = b, a
				}
				a.Write([]byte("x"))
				if _, err := io.ReadFull(b, make([]byte, 1)); err != nil {
					t.Fatal(err)
				}
				if busy { // data on the way towards the end that resets
					b.Write(make([]byte, 4<<20>>3))
				}
				a.SetLinger(0)
				a.Close()
				_, err := io.Copy(io.Discard, b)
				if !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("the other end saw %v, not a reset", err)
				}
				near, far := <-r.client, <-r.server
				if swap {
					near, far = far, near
				}
				if !near.TCPReset || !far.StreamReset || far.TCPReset {
					t.Errorf("near %+v, far %+v", near, far)
				}
			})
		}
	}
}

func TestResetCodes(t *testing.T) {
	for _, code := range []http2.ErrCode{http2.ErrCodeNo, http2.ErrCodeCancel, http2.ErrCodeConnect, http2.ErrCodeInternal} {
		t.Run(code.String(), func(t *testing.T) {
			tn := tlsTunnel(t, Config{}, func(s *Stream, _ *Head) {
				s.Accept(Baggage{})
				s.Write([]byte("data"))
				s.Reset(code)
			})
			s := open(t, tn.client)
			got, err := io.ReadAll(s)
			var reset *ResetError
			eof := code == http2.ErrCodeNo || code == http2.ErrCodeCancel
			if eof && (err != nil || string(got) != "data") {
				t.Errorf("%q, %v: want the data and end of file", got, err)
			}
			if !eof && (!errors.As(err, &reset) || !reset.Remote || reset.Code != code) {
				t.Errorf("%v: want a reset", err)
			}
			<-s.Done()
			if _, err := s.Write([]byte("x")); !errors.As(err, &reset) {
				t.Errorf("write after a reset: %v", err)
			}
		})
	}
}

// TestCancelIsEndOfFileForTCP checks the interop with Istio: a stream dropped with CANCEL ends the application's connection
// with FIN, after all data.
func TestCancelIsEndOfFileForTCP(t *testing.T) {
	tn := tlsTunnel(t, Config{}, func(s *Stream, _ *Head) {
		s.Accept(Baggage{})
		s.Write(make([]byte, 100<<10))
		s.Reset(http2.ErrCodeCancel)
	})
	a, b := tcpPair(t)
	s := open(t, tn.client)
	done := make(chan Result, 1)
	go func() { done <- relay(t, b, s) }()
	if got, err := io.ReadAll(a); len(got) != 100<<10 || err != nil {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if r := <-done; !r.StreamReset {
		t.Errorf("%+v", r)
	}
}

func TestLostTunnelResetsConnections(t *testing.T) {
	r := newRelays(t)
	tn := tlsTunnel(t, Config{}, r.handle)
	a, b := r.open(tn.client)
	tn.client.Close()
	for _, c := range []*net.TCPConn{a, b} {
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("application saw %v", err)
		}
	}
	if res := <-r.client; !errors.Is(res.Err, ErrConnLost) {
		t.Errorf("%+v", res)
	}
}

func TestConnectGivesUpWithItsContext(t *testing.T) {
	gone := make(chan struct{})
	tn := tlsTunnel(t, Config{}, func(s *Stream, _ *Head) { <-s.Done(); close(gone) })
	ctx, cancel := context.WithCancel(t.Context())
	h := testHead
	go func() {
		for tn.server.Streams() == 0 {
		}
		cancel()
	}()
	if _, _, err := tn.client.Connect(ctx, &h); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	<-gone // the handler learned of it
}

// TestSlowReaderPinsLittle fills a tunnel towards an application that does not read, and checks what the tunnel keeps, that a
// second stream is not held up, and that everything arrives once the application reads.
func TestSlowReaderPinsLittle(t *testing.T) {
	r := newRelays(t)
	m := new(Metrics)
	tn := tlsTunnel(t, Config{Metrics: m}, r.handle)
	a, b := r.open(tn.client)
	b.SetReadBuffer(64 << 10)

	const total = 32 << 20
	var wg sync.WaitGroup
	wg.Go(func() {
		a.Write(make([]byte, total))
		a.CloseWrite()
	})
	for m.SlowReads.Load() == 0 {
		// The queue grows only after the sockets' own buffers are full.
		c, d := r.open(tn.client)
		c.Write(make([]byte, 100<<10))
		c.CloseWrite()
		if n, err := io.Copy(io.Discard, d); n != 100<<10 || err != nil {
			t.Fatalf("beside a slow stream: %d bytes, %v", n, err)
		}
		d.Close()
		<-r.client
		<-r.server
		if q := m.QueuedBytes.Load(); q > 4<<20 {
			t.Fatalf("%d bytes queued", q)
		}
	}
	var got int64
	buf := make([]byte, 64<<10)
	for {
		n, err := b.Read(buf)
		got += int64(n)
		if q := m.QueuedBytes.Load(); q > 4<<20 {
			t.Fatalf("%d bytes queued", q)
		}
		if err != nil {
			break
		}
	}
	if got != total {
		t.Errorf("%d of %d bytes arrived", got, total)
	}
	wg.Wait()
	b.Close()
	a.Close()
	r.wg.Wait()
}

func TestStreamLimit(t *testing.T) {
	release := make(chan struct{})
	tn := tlsTunnel(t, Config{MaxStreams: 5}, func(s *Stream, _ *Head) {
		s.Accept(Baggage{})
		<-release
	})
	for range 5 {
		open(t, tn.client)
	}
	h := testHead
	if _, _, err := tn.client.Connect(t.Context(), &h); !errors.Is(err, ErrNotProcessed) {
		t.Errorf("sixth stream: %v", err)
	}
	close(release)
}

// TestResetAfterHalfClose checks that an application that half-closed and then dies is noticed though no byte flows.
func TestResetAfterHalfClose(t *testing.T) {
	r := newRelays(t)
	tn := tlsTunnel(t, Config{}, r.handle)
	a, b := r.open(tn.client)
	a.CloseWrite()
	if _, err := b.Read(make([]byte, 1)); err != io.EOF {
		t.Fatal(err)
	}
	a.SetLinger(0)
	a.Close()
	if res := <-r.client; !res.TCPReset {
		t.Errorf("client relay: %+v", res)
	}
	if res := <-r.server; !res.StreamReset {
		t.Errorf("server relay: %+v", res)
	}
	if _, err := b.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the other end can write after a reset: %v", err)
	}
}

// TestDrainDeliversTheTail checks that a drained server does not close before the peer has everything.
func TestDrainDeliversTheTail(t *testing.T) {
	const size = 3 << 20
	started := make(chan struct{})
	tn := tlsTunnel(t, Config{}, func(s *Stream, _ *Head) {
		s.Accept(Baggage{})
		<-started
		s.Write(make([]byte, size))
		s.CloseWrite()
		io.Copy(io.Discard, s)
	})
	s := open(t, tn.client)
	tn.server.Drain()
	close(started)
	s.CloseWrite()
	if n, err := io.Copy(io.Discard, s); n != size || err != nil {
		t.Errorf("%d of %d bytes, %v", n, size, err)
	}
}

func TestCountersReturnToZero(t *testing.T) {
	m := new(Metrics)
	tn := tlsTunnel(t, Config{Metrics: m}, func(s *Stream, _ *Head) {
		s.Accept(Baggage{})
		s.Write(make([]byte, 1000)) // never read
		<-s.Done()
	})
	for range 10 {
		open(t, tn.client)
	}
	tn.stop()
	if m.StreamsOpen.Load() != 0 || m.ConnsOpen.Load() != 0 || m.QueuedBytes.Load() != 0 {
		t.Errorf("%d streams, %d connections, %d bytes", m.StreamsOpen.Load(), m.ConnsOpen.Load(), m.QueuedBytes.Load())
	}
}
