package hbone

import (
	"io"
	"net"
	"runtime"
	"sync"
	"testing"

	"github.com/ambit-mesh/ambit/ztunnel/hbone/buffer"
)

// floorCopy is the minimal pair's one job: read up to 128 KiB of what is there, write it at once.
func floorCopy(dst io.Writer, src io.Reader) {
	buf := make([]byte, 128<<10)
	from, _ := src.(*TLSConn)
	to, _ := dst.(*TLSConn)
	for {
		n, err := src.Read(buf)
		for from != nil && err == nil && from.records.HasRecord() && len(buf)-n >= buffer.Record {
			var k int
			k, err = src.Read(buf[n:])
			n += k
		}
		if n > 0 {
			if to != nil {
				to.records.Cork()
			}
			if _, werr := dst.Write(buf[:n]); werr != nil {
				return
			}
			if to != nil {
				to.records.Flush()
			}
		}
		if err != nil {
			return
		}
	}
}

// floor returns the applications' ends of a connection through a pair that only speaks TLS and copies.
func floor(b *testing.B, wg *sync.WaitGroup) (client, server *net.TCPConn) {
	appA, inA := tcpPair(b)
	inB, appB := tcpPair(b)
	tc, ts := tlsPair(b)
	for _, d := range []struct {
		dst io.Writer
		src io.Reader
		end func() error
	}{{tc, inA, tc.CloseWrite}, {inA, tc, inA.CloseWrite}, {ts, inB, ts.CloseWrite}, {inB, ts, inB.CloseWrite}} {
		wg.Go(func() { floorCopy(d.dst, d.src); d.end() })
	}
	return appA, appB
}

// bulk sends b.N pieces of 64 KiB over each connection and waits until all arrived.
func bulk(b *testing.B, conns int, open func() (client, server *net.TCPConn)) {
	const piece = 64 << 10
	type ends struct{ a, b *net.TCPConn }
	var all []ends
	for range conns {
		x, y := open()
		all = append(all, ends{x, y})
	}
	b.SetBytes(int64(piece * conns))
	b.ResetTimer()
	var wg sync.WaitGroup
	for _, e := range all {
		wg.Go(func() {
			buf := make([]byte, piece)
			for range b.N {
				if _, err := e.a.Write(buf); err != nil {
					b.Error(err)
					return
				}
			}
			e.a.CloseWrite()
		})
		wg.Go(func() {
			buf := make([]byte, 256<<10)
			var got int64
			for {
				n, err := e.b.Read(buf)
				got += int64(n)
				if err != nil {
					break
				}
			}
			if got != int64(piece)*int64(b.N) {
				b.Errorf("received %d of %d bytes", got, int64(piece)*int64(b.N))
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	for _, e := range all {
		e.a.Close()
		e.b.Close()
	}
}

func BenchmarkThroughput(b *testing.B) {
	for _, conns := range []int{1, 16} {
		name := map[int]string{1: "1stream", 16: "16streams"}[conns]
		b.Run(name+"/floor", func(b *testing.B) {
			var wg sync.WaitGroup
			bulk(b, conns, func() (*net.TCPConn, *net.TCPConn) { return floor(b, &wg) })
			wg.Wait()
		})
		b.Run(name+"/hbone", func(b *testing.B) {
			r := newRelays(b)
			tn := tlsTunnel(b, Config{}, r.handle)
			bulk(b, conns, func() (*net.TCPConn, *net.TCPConn) { return r.open(tn.client) })
			r.wg.Wait()
			tn.stop()
		})
	}
}

// BenchmarkSetup opens streams on a warm tunnel, exchanges one message and closes, 16 at a time. No sockets but the tunnel's
// take part, so ns/op is the engine's share of a new connection, both ends together.
func BenchmarkSetup(b *testing.B) {
	tn := tlsTunnel(b, Config{}, func(s *Stream, _ *Head) {
		var buf [64]byte
		s.Accept(Baggage{Workload: "dst"})
		n, _ := s.Read(buf[:])
		s.Write(buf[:n])
		s.CloseWrite()
		s.Read(buf[:])
	})
	b.ReportAllocs()
	b.SetParallelism(16 / runtime.GOMAXPROCS(0))
	b.RunParallel(func(pb *testing.PB) {
		msg := []byte("hello")
		var buf [64]byte
		for pb.Next() {
			s := open(b, tn.client)
			s.Write(msg)
			s.CloseWrite()
			if n, err := s.Read(buf[:]); err != nil || n != len(msg) {
				b.Error(n, err)
			}
			if _, err := s.Read(buf[:]); err != io.EOF {
				b.Error(err)
			}
		}
	})
	b.StopTimer()
	tn.stop()
}

// BenchmarkRoundTrip measures request and response of 1 KiB through both relays.
func BenchmarkRoundTrip(b *testing.B) {
	exchange := func(b *testing.B, x, y *net.TCPConn) {
		var wg sync.WaitGroup
		wg.Go(func() {
			buf := make([]byte, 1024)
			for {
				if _, err := io.ReadFull(y, buf); err != nil {
					return
				}
				y.Write(buf)
			}
		})
		buf := make([]byte, 1024)
		for b.Loop() {
			x.Write(buf)
			if _, err := io.ReadFull(x, buf); err != nil {
				b.Fatal(err)
			}
		}
		x.Close()
		wg.Wait()
		y.Close()
	}
	b.Run("floor", func(b *testing.B) {
		var wg sync.WaitGroup
		x, y := floor(b, &wg)
		exchange(b, x, y)
		wg.Wait()
	})
	b.Run("hbone", func(b *testing.B) {
		r := newRelays(b)
		tn := tlsTunnel(b, Config{}, r.handle)
		x, y := r.open(tn.client)
		exchange(b, x, y)
		r.wg.Wait()
		tn.stop()
	})
}

// inUse returns the Go memory in use and the stacks' part of it.
func inUse() (all, stack float64) {
	for range 5 {
		runtime.GC() // each halves the stacks of parked goroutines once
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc + m.StackInuse), float64(m.StackInuse)
}

// BenchmarkIdleMemory reports Go memory, stacks and the share of TLS included, per idle connection and side, beside the same for
// the floor's pair, which has a TLS connection, two goroutines and two buffers for each.
func BenchmarkIdleMemory(b *testing.B) {
	measure := func(b *testing.B, n int, open func(i int) (x, y *net.TCPConn)) {
		for b.Loop() {
			var apps []*net.TCPConn
			before, _ := inUse()
			for range n { // what the applications' own sockets take is taken off
				x, y := tcpPair(b)
				apps = append(apps, x, y)
			}
			sockets, _ := inUse()
			sockets -= before
			before, stackBefore := inUse()
			for i := range n {
				x, y := open(i)
				apps = append(apps, x, y)
				x.Write([]byte("x"))
				io.ReadFull(y, make([]byte, 1))
				y.Write([]byte("x"))
				io.ReadFull(x, make([]byte, 1))
			}
			after, stack := inUse()
			sides := float64(2 * n)
			b.ReportMetric((after-before-sockets)/sides, "B/idle-side")
			b.ReportMetric((stack-stackBefore)/sides, "stackB/idle-side")
			for _, a := range apps {
				a.Close()
			}
		}
	}
	b.Run("floor", func(b *testing.B) {
		var wg sync.WaitGroup
		measure(b, 100, func(int) (x, y *net.TCPConn) { return floor(b, &wg) })
		wg.Wait()
	})
	b.Run("hbone", func(b *testing.B) {
		r := newRelays(b)
		var tns []*tunnel
		measure(b, 1000, func(i int) (x, y *net.TCPConn) {
			if i%100 == 0 {
				tns = append(tns, tlsTunnel(b, Config{}, r.handle))
			}
			return r.open(tns[len(tns)-1].client)
		})
		r.wg.Wait()
		for _, tn := range tns {
			tn.stop()
		}
	})
}

// BenchmarkRoundTrip64 measures the rate of 1 KiB exchanges over 64 connections at once. The floor needs 64 TLS
// connections, the tunnel one.
func BenchmarkRoundTrip64(b *testing.B) {
	run := func(b *testing.B, open func() (x, y *net.TCPConn)) {
		const conns = 64
		var servers, clients sync.WaitGroup
		var all []*net.TCPConn
		for range conns {
			x, y := open()
			all = append(all, x)
			servers.Go(func() {
				defer y.Close()
				buf := make([]byte, 1024)
				for {
					if _, err := io.ReadFull(y, buf); err != nil {
						return
					}
					y.Write(buf)
				}
			})
		}
		b.ResetTimer()
		for i, x := range all {
			n := b.N / conns
			if i < b.N%conns {
				n++
			}
			clients.Go(func() {
				buf := make([]byte, 1024)
				for range n {
					x.Write(buf)
					if _, err := io.ReadFull(x, buf); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		clients.Wait()
		b.StopTimer()
		for _, x := range all {
			x.Close()
		}
		servers.Wait()
	}
	b.Run("floor", func(b *testing.B) {
		var wg sync.WaitGroup
		run(b, func() (x, y *net.TCPConn) { return floor(b, &wg) })
		wg.Wait()
	})
	b.Run("hbone", func(b *testing.B) {
		r := newRelays(b)
		tn := tlsTunnel(b, Config{}, r.handle)
		run(b, func() (x, y *net.TCPConn) { return r.open(tn.client) })
		r.wg.Wait()
		tn.stop()
	})
}
