package hbone

import (
	"io"
	"net"
	"runtime"
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
