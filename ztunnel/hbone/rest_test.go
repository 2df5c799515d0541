package hbone

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"
)

// shifts runs a relay and says how many shifts it took.
func shifts(t *testing.T, r *Relay, n chan<- int) Result {
	t.Helper()
	for i := 1; ; i++ {
		if result, over := r.Run(); over {
			return result
		}
		n <- i
	}
}

// A relay rests once for each time that its socket falls silent, and what arrives then wakes it.
func TestRest(t *testing.T) {
	tn := tlsTunnel(t, Config{}, echo)
	a, b := tcpPair(t)
	n := new(Counters)
	r, err := NewRelay(b, open(t, tn.client), n)
	if err != nil {
		t.Fatal(err)
	}
	over, done := make(chan int, 8), make(chan Result, 1)
	go func() { done <- shifts(t, r, over) }()
	want := func(p string) {
		t.Helper()
		got, counted := make([]byte, len(p)), n.ToStream.Load()+int64(len(p))
		if _, err := io.WriteString(a, p); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(a, got); err != nil || string(got) != p {
			t.Fatalf("%q came back, %v; want %q", got, err, p)
		}
		for n.ToStream.Load() < counted { // which may be after the answer
			runtime.Gosched()
		}
	}
	for round := 1; round <= 3; round++ {
		want("hello")
		if r.Rest() {
			t.Error("rests right after it has sent")
		}
		if !r.Rest() {
			t.Error("does not rest")
		}
		if n := <-over; n != round {
			t.Errorf("%d shifts have ended, want %d", n, round)
		}
		if r.Rest() {
			t.Error("rests twice without having worked")
		}
	}
	want("good night")
	a.CloseWrite() // echo ends as well
	if rest, err := io.ReadAll(a); len(rest) > 0 || err != nil {
		t.Errorf("%q at the end, %v", rest, err)
	}
	if got := <-done; got.Err != nil {
		t.Errorf("ended with %v", got.Err)
	}
}

// Between the two ends of file, too, a relay may rest, and still sees a reset.
func TestRestHalfClosed(t *testing.T) {
	gone := make(chan struct{})
	tn := tlsTunnel(t, Config{}, func(s *Stream, _ *Head) {
		s.Accept(Baggage{})
		_, _ = io.Copy(io.Discard, s)
		<-s.Done()
		close(gone)
	})
	a, b := tcpPair(t)
	r, err := NewRelay(b, open(t, tn.client), new(Counters))
	if err != nil {
		t.Fatal(err)
	}
	over, done := make(chan int, 8), make(chan Result, 1)
	go func() { done <- shifts(t, r, over) }()
	a.CloseWrite()
	for !r.s.sendOver() {
		runtime.Gosched()
	}
	for !r.Rest() {
	}
	<-over
	a.SetLinger(0)
	a.Close()
	if got := <-done; !got.TCPReset {
		t.Errorf("ended with %+v, want a reset of the socket", got)
	}
	<-gone
}

// sendOver tells whether our direction has ended.
func (s *Stream) sendOver() bool {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.sentEnd
}

// A relay that ends while it rests ends as any other.
func TestRestEnds(t *testing.T) {
	for name, end := range map[string]func(s *Stream, app *net.TCPConn){
		"stream reset": func(s *Stream, _ *net.TCPConn) { s.Reset(http2.ErrCodeInternal) },
		"socket reset": func(_ *Stream, app *net.TCPConn) { app.SetLinger(0); app.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			tn := tlsTunnel(t, Config{}, echo)
			a, b := tcpPair(t)
			s := open(t, tn.client)
			r, err := NewRelay(b, s, new(Counters))
			if err != nil {
				t.Fatal(err)
			}
			over, done := make(chan int, 8), make(chan Result, 1)
			go func() { done <- shifts(t, r, over) }()
			for !r.Rest() {
			}
			<-over
			end(s, a)
			if got := <-done; got.Err == nil {
				t.Error("ended in the normal way")
			}
		})
	}
}

// Relays that are told to rest all the time lose no byte, no end of file and no goroutine.
func TestRestAlways(t *testing.T) {
	const relays, rounds = 8, 150
	tn := tlsTunnel(t, Config{}, echo)
	var all []*Relay
	var work sync.WaitGroup
	var rested atomic.Int64
	for i := range relays {
		a, b := tcpPair(t)
		r, err := NewRelay(b, open(t, tn.client), new(Counters))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
		work.Go(func() {
			for {
				result, over := r.Run()
				if over {
					if result.Err != nil {
						t.Errorf("relay %d ended with %v", i, result.Err)
					}
					return
				}
				rested.Add(1)
			}
		})
		var sent bytes.Buffer
		random := rand.New(rand.NewPCG(1, uint64(i)))
		for range rounds {
			piece := make([]byte, 1+random.IntN(1<<random.IntN(17)))
			for j := range piece {
				piece[j] = byte(random.Uint32())
			}
			sent.Write(piece)
		}
		work.Go(func() {
			in := bytes.NewReader(sent.Bytes())
			for in.Len() > 0 {
				if _, err := io.CopyN(a, in, int64(min(in.Len(), 1+in.Len()%5000))); err != nil {
					t.Errorf("relay %d: %v", i, err)
					break
				}
				runtime.Gosched()
			}
			a.CloseWrite()
		})
		work.Go(func() {
			got, err := io.ReadAll(a)
			if err != nil || !bytes.Equal(got, sent.Bytes()) {
				t.Errorf("relay %d: %d bytes came back, %v; want %d", i, len(got), err, sent.Len())
			}
		})
	}
	over := make(chan struct{})
	go func() { work.Wait(); close(over) }()
	for {
		select {
		case <-over:
			if rested.Load() == 0 {
				t.Error("no relay has rested")
			}
			return
		default:
			for _, r := range all {
				r.Rest()
			}
			runtime.Gosched()
		}
	}
}
