package hbone

import (
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

// writesCounted is a connection that counts its writes.
type writesCounted struct {
	net.Conn
	n atomic.Int64
}

func (c *writesCounted) Write(p []byte) (int, error) {
	c.n.Add(1)
	return c.Conn.Write(p)
}

// What several streams have to say at the same time leaves in common writes.
func TestSmallFramesTravelTogether(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // who can run is in one queue
	const many = 12
	a, b := tcpPair(t)
	counted := &writesCounted{Conn: a}
	var arrived sync.WaitGroup
	arrived.Add(many)
	tn := connect(t, counted, b, Config{}, func(s *Stream, _ *Head) {
		s.Accept(Baggage{})
		var word [4]byte
		if _, err := s.Read(word[:]); err != nil {
			t.Error(err)
		}
		arrived.Done()
		s.Close()
	})
	streams := make([]*Stream, many)
	for i := range streams {
		streams[i] = open(t, tn.client)
		defer streams[i].Close()
	}
	before := counted.n.Load()
	start := make(chan struct{})
	var writers sync.WaitGroup
	for _, s := range streams {
		writers.Go(func() {
			<-start
			if _, err := s.Write([]byte("word")); err != nil {
				t.Error(err)
			}
		})
	}
	runtime.Gosched() // let them wait
	close(start)
	writers.Wait()
	writes := counted.n.Load() - before
	arrived.Wait()
	if writes > many/2 {
		t.Errorf("%d writes for %d frames", writes, many)
	}
}
