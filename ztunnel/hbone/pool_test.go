package hbone

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
)

// world is a pool and the servers it dials, all in memory and in one bubble.
type world struct {
	t       *testing.T
	pool    *Pool
	m       *Metrics
	dials   atomic.Int64
	latency time.Duration
	fail    func(n int64) error        // n counts dials from 1
	serve   func(n int64, nc net.Conn) // nil: a real server that echoes
	mu      sync.Mutex
	servers []*ServerConn
	wg      sync.WaitGroup
	stop    context.CancelFunc
}

func inWorld(t *testing.T, cfg PoolConfig, script func(w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, m: new(Metrics), latency: time.Millisecond}
		cfg.Conn.Metrics = w.m
		w.pool = NewPool(cfg, w.dial)
		ctx, cancel := context.WithCancel(t.Context())
		w.stop = cancel
		w.wg.Go(func() { w.pool.Run(ctx) })
		script(w)
		cancel()
		w.wg.Wait()
		if n := w.pool.Conns(); n != 0 {
			t.Errorf("%d connections outlive the pool", n)
		}
		if n := len(w.pool.entries); n != 0 {
			t.Errorf("%d keys outlive the pool", n)
		}
	})
}

func (w *world) dial(ctx context.Context, _ Key) (net.Conn, error) {
	n := w.dials.Add(1)
	select {
	case <-time.After(w.latency):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if w.fail != nil {
		if err := w.fail(n); err != nil {
			return nil, err
		}
	}
	a, b := net.Pipe()
	if w.serve != nil {
		w.wg.Go(func() { w.serve(n, b) })
		return a, nil
	}
	sc := NewServerConn(b, Config{}, handler(echo))
	w.mu.Lock()
	w.servers = append(w.servers, sc)
	w.mu.Unlock()
	w.wg.Go(func() { sc.Run(context.WithoutCancel(w.t.Context())) })
	return a, nil
}

func key(n byte) Key {
	return Key{
		Source: "spiffe://td/ns/a/sa/b", Dests: []string{"spiffe://td/ns/c/sa/d"},
		Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, n}), 15008), SourceIP: netip.AddrFrom4([4]byte{10, 1, 0, 1}),
	}
}

func (w *world) open(k Key) (*Stream, error) {
	h := testHead
	s, _, err := w.pool.Connect(w.t.Context(), k, &h)
	return s, err
}

// check sends something through s and closes it.
func check(s *Stream) error {
	if _, err := s.Write([]byte("ping")); err != nil {
		return err
	}
	if err := s.CloseWrite(); err != nil {
		return err
	}
	got, err := io.ReadAll(s)
	if err == nil && string(got) != "ping" {
		err = errors.New("echo " + string(got))
	}
	return err
}

func TestFirstConnectsShareOneDial(t *testing.T) {
	inWorld(t, PoolConfig{}, func(w *world) {
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				s, err := w.open(key(1))
				if err == nil {
					err = check(s)
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := w.dials.Load(); n != 1 {
			t.Errorf("%d dials", n)
		}
	})
}

func TestKeysDoNotShare(t *testing.T) {
	inWorld(t, PoolConfig{}, func(w *world) {
		base := key(1)
		keys := []Key{base, key(2), base, base, base, base}
		keys[2].Source = "spiffe://td/ns/a/sa/other"
		keys[3].Dests = []string{"spiffe://td/ns/c/sa/other"}
		keys[4].Dests = []string{"spiffe://td/ns/c/sa/d", "spiffe://td/ns/c/sa/e"}
		keys[5].SourceIP = netip.MustParseAddr("10.1.0.2")
		for range 2 {
			for _, k := range keys {
				s, err := w.open(k)
				if err != nil {
					t.Fatal(err)
				}
				check(s)
			}
		}
		if n := w.dials.Load(); n != int64(len(keys)) {
			t.Errorf("%d dials for %d keys", n, len(keys))
		}
	})
}

func TestDialFailureReachesAllWhoWait(t *testing.T) {
	inWorld(t, PoolConfig{}, func(w *world) {
		broken := errors.New("no route")
		w.fail = func(n int64) error {
			if n == 1 {
				return broken
			}
			return nil
		}
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if _, err := w.open(key(1)); !errors.Is(err, broken) {
					t.Errorf("got %v", err)
				}
			})
		}
		wg.Wait()
		if n := w.dials.Load(); n != 1 {
			t.Errorf("%d dials", n)
		}
		s, err := w.open(key(1))
		if err != nil || check(s) != nil {
			t.Errorf("after a failure: %v", err)
		}
	})
}

func TestSlowDialHoldsUpNobodyElse(t *testing.T) {
	inWorld(t, PoolConfig{DialTimeout: time.Minute}, func(w *world) {
		w.latency = time.Hour
		slow := make(chan error, 1)
		go func() {
			_, err := w.open(key(1))
			slow <- err
		}()
		synctest.Wait()
		w.latency = 0
		start := time.Now()
		s, err := w.open(key(2))
		if err != nil || check(s) != nil || time.Since(start) > time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		if err := <-slow; !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Minute {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

func TestCancelledCallerDoesNotSpoilTheDial(t *testing.T) {
	inWorld(t, PoolConfig{}, func(w *world) {
		ctx, cancel := context.WithCancel(w.t.Context())
		h := testHead
		first := make(chan error, 1)
		go func() {
			_, _, err := w.pool.Connect(ctx, key(1), &h)
			first <- err
		}()
		synctest.Wait()
		second := make(chan error, 1)
		go func() {
			s, err := w.open(key(1))
			if err == nil {
				err = check(s)
			}
			second <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-first; !errors.Is(err, context.Canceled) {
			t.Errorf("first: %v", err)
		}
		if err := <-second; err != nil || w.dials.Load() != 1 {
			t.Errorf("second: %v after %d dials", err, w.dials.Load())
		}
	})
}

func TestFullConnectionsGetASibling(t *testing.T) {
	inWorld(t, PoolConfig{Conn: Config{MaxStreams: 10}, MaxConnsPerKey: 3, Spread: 1}, func(w *world) {
		var streams []*Stream
		for range 30 {
			s, err := w.open(key(1))
			if err != nil {
				t.Fatal(err)
			}
			streams = append(streams, s)
		}
		if n := w.dials.Load(); n != 3 {
			t.Errorf("%d connections for 30 streams", n)
		}
		if _, err := w.open(key(1)); !errors.Is(err, ErrLimit) || w.m.PoolLimited.Load() != 1 {
			t.Errorf("over the limit: %v", err)
		}
		check(streams[17])
		synctest.Wait()
		s, err := w.open(key(1)) // the slot is free again, on a connection that was full
		if err != nil || w.dials.Load() != 3 {
			t.Errorf("%v, %d dials", err, w.dials.Load())
		}
		check(s)
		for i, s := range streams {
			if i != 17 {
				if err := check(s); err != nil {
					t.Error(err)
				}
			}
		}
	})
}

func TestBulkSpreads(t *testing.T) {
	inWorld(t, PoolConfig{Spread: 3, SpreadAt: 2}, func(w *world) {
		for range 30 {
			if _, err := w.open(key(1)); err != nil {
				t.Fatal(err)
			}
			<-time.After(10 * time.Millisecond)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if len(w.servers) != 3 {
			t.Fatalf("%d connections", len(w.servers))
		}
		for _, sc := range w.servers {
			if n := sc.Streams(); n != 10 {
				t.Errorf("%d streams on one of three", n)
			}
		}
	})
}

func TestIdleConnectionsAreReleased(t *testing.T) {
	inWorld(t, PoolConfig{}, func(w *world) {
		idle, _ := w.open(key(1))
		busy, _ := w.open(key(2))
		check(idle)
		<-time.After(4 * time.Minute)
		if n := w.pool.Conns(); n != 2 {
			t.Errorf("%d connections after 4 minutes", n)
		}
		<-time.After(2 * time.Minute)
		synctest.Wait()
		if n := w.pool.Conns(); n != 1 {
			t.Errorf("%d connections after 6 minutes", n)
		}
		if err := check(busy); err != nil {
			t.Errorf("a stream was cut: %v", err)
		}
		<-time.After(6 * time.Minute)
		synctest.Wait()
		if n := w.pool.Conns(); n != 0 || len(w.pool.entries) != 0 {
			t.Errorf("%d connections, %d keys at the end", n, len(w.pool.entries))
		}
	})
}

func TestOldConnectionsAreReplaced(t *testing.T) {
	inWorld(t, PoolConfig{MaxAge: time.Hour}, func(w *world) {
		old, _ := w.open(key(1))
		<-time.After(62 * time.Minute)
		young, err := w.open(key(1))
		if err != nil || w.dials.Load() != 2 {
			t.Errorf("%v, %d dials", err, w.dials.Load())
		}
		if check(old) != nil || check(young) != nil {
			t.Error("a stream was cut")
		}
	})
}

func TestEvictOnRotation(t *testing.T) {
	inWorld(t, PoolConfig{}, func(w *world) {
		k := key(1)
		live, _ := w.open(k)
		other := key(2)
		other.Source = "spiffe://td/ns/a/sa/other"
		untouched, _ := w.open(other)
		match := func(x Key) bool { return x.Source == k.Source }
		w.pool.Evict(match)
		next, err := w.open(k)
		if err != nil || w.dials.Load() != 3 {
			t.Fatalf("%v, %d dials", err, w.dials.Load())
		}
		for _, s := range []*Stream{live, next, untouched} {
			if err := check(s); err != nil {
				t.Errorf("a stream was cut: %v", err)
			}
		}
		// A dial that began before the rotation is not used.
		w.pool.Evict(func(Key) bool { return true })
		synctest.Wait()
		before := w.dials.Load()
		w.latency = time.Second
		done := make(chan error, 1)
		go func() {
			s, err := w.open(k)
			if err == nil {
				err = check(s)
			}
			done <- err
		}()
		synctest.Wait()
		w.pool.Evict(match)
		if err := <-done; err != nil || w.dials.Load() != before+2 {
			t.Errorf("%v, %d dials", err, w.dials.Load()-before)
		}
	})
}

func TestDrainedServerIsReplaced(t *testing.T) {
	inWorld(t, PoolConfig{}, func(w *world) {
		old, _ := w.open(key(1))
		w.mu.Lock()
		w.servers[0].Drain()
		w.mu.Unlock()
		synctest.Wait()
		s, err := w.open(key(1))
		if err != nil || w.dials.Load() != 2 {
			t.Fatalf("%v, %d dials", err, w.dials.Load())
		}
		if check(old) != nil || check(s) != nil {
			t.Error("a stream was cut")
		}
	})
}

// script serves one connection with a Framer; f sees each CONNECT's stream number.
func script(nc net.Conn, f func(fr *http2.Framer, id uint32) error) {
	defer nc.Close()
	fr := http2.NewFramer(nc, nc)
	settings := make(chan error, 1)
	go func() { settings <- http2.NewFramer(nc, nil).WriteSettings() }()
	io.ReadFull(nc, make([]byte, len(http2.ClientPreface)))
	for {
		frame, err := fr.ReadFrame()
		if err != nil {
			return
		}
		if h, ok := frame.(*http2.HeadersFrame); ok {
			if h.StreamID == 1 {
				<-settings // which must be the first frame
			}
			if err := f(fr, h.StreamID); err != nil {
				return
			}
		}
	}
}

func TestConnectsAreSentAgain(t *testing.T) {
	errHangUp := errors.New("hang up")
	for name, first := range map[string]func(fr *http2.Framer, id uint32) error{
		"refused":                             func(fr *http2.Framer, id uint32) error { return fr.WriteRSTStream(id, http2.ErrCodeRefusedStream) },
		"goaway below":                        func(fr *http2.Framer, id uint32) error { return fr.WriteGoAway(0, http2.ErrCodeNo, nil) },
		"goaway, no answer, as Istio's drain": func(fr *http2.Framer, id uint32) error { return fr.WriteGoAway(id, http2.ErrCodeNo, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, PoolConfig{}, func(w *world) {
				w.serve = func(n int64, nc net.Conn) {
					if n == 1 {
						script(nc, first)
						return
					}
					ServeConn(context.WithoutCancel(w.t.Context()), nc, Config{}, handler(echo))
				}
				done := make(chan error, 1)
				go func() {
					s, err := w.open(key(1))
					if err == nil {
						err = check(s)
					}
					done <- err
				}()
				err := <-done
				if err != nil || w.m.PoolResent.Load() != 1 {
					t.Errorf("%v, %d sent again", err, w.m.PoolResent.Load())
				}
			})
		})
	}
	t.Run("a reused connection breaks", func(t *testing.T) {
		inWorld(t, PoolConfig{}, func(w *world) {
			w.serve = func(n int64, nc net.Conn) {
				if n > 1 {
					ServeConn(context.WithoutCancel(w.t.Context()), nc, Config{}, handler(echo))
					return
				}
				script(nc, func(fr *http2.Framer, id uint32) error {
					if id == 1 {
						return fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x88}, EndHeaders: true})
					}
					return errHangUp
				})
			}
			s, err := w.open(key(1))
			if err != nil {
				t.Fatal(err)
			}
			s2, err := w.open(key(1))
			if err != nil || check(s2) != nil {
				t.Errorf("got %v", err)
			}
			s.Close()
		})
	})
	t.Run("a fresh connection breaks", func(t *testing.T) {
		inWorld(t, PoolConfig{}, func(w *world) {
			w.serve = func(n int64, nc net.Conn) { script(nc, func(*http2.Framer, uint32) error { return errHangUp }) }
			if _, err := w.open(key(1)); !errors.Is(err, ErrConnLost) || w.dials.Load() != 1 {
				t.Errorf("%v after %d dials", err, w.dials.Load())
			}
		})
	})
}

func TestClosedPoolSaysSo(t *testing.T) {
	inWorld(t, PoolConfig{}, func(w *world) {
		s, _ := w.open(key(1))
		w.latency = time.Hour
		dialing := make(chan error, 1)
		go func() {
			_, err := w.open(key(2))
			dialing <- err
		}()
		synctest.Wait()
		w.stop()
		if err := <-dialing; !errors.Is(err, context.Canceled) {
			t.Errorf("during a dial: %v", err)
		}
		if _, err := io.ReadAll(s); !errors.Is(err, ErrConnLost) {
			t.Errorf("open stream: %v", err)
		}
		if _, err := w.open(key(1)); !errors.Is(err, ErrClosed) {
			t.Errorf("after the end: %v", err)
		}
	})
}
