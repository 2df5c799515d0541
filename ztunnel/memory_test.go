package ztunnel

import (
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/ambit-mesh/ambit/test/need"
)

// idleLimit is what an idle connection may cost both of its ztunnels together, in bytes of heap and stacks. What the runtime and
// the kernel need beside is in the benchmark's figures only.
const idleLimit = 12 << 10

// An idle connection costs little. Both ztunnels and both applications run in this process, so the applications' share is
// measured first, with connections that go from one to the other directly, and taken off.
func TestIdleMemory(t *testing.T) {
	need.That(t, !raceEnabled, need.NoRace, "the race detector's own memory would be measured")
	const many = 1500
	m, client, _, dst := pair(t)
	direct := m.app(m.net.Addr(), hold)
	open := func(dial func() *net.TCPConn, rest func()) (each int, conns []*net.TCPConn) {
		before := inUse()
		for range many {
			c := dial()
			if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			conns = append(conns, c)
		}
		rest()
		return int(inUse()-before) / many, conns
	}
	apps, conns := open(func() *net.TCPConn {
		c, err := net.DialTCP("tcp4", nil, net.TCPAddrFromAddrPort(direct))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}, func() {})
	for _, c := range conns {
		c.Close()
	}
	echoing := m.app(dst.Addr(), hold)
	warm := m.dial(client, echoing)
	if _, err := io.ReadFull(warm, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	all, conns := open(func() *net.TCPConn {
		c, err := m.net.Connect(t.Context(), client, echoing)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}, func() { m.rest(t, 2*many) })
	for _, c := range conns {
		c.Close()
	}
	t.Logf("an idle connection: %d bytes in both ztunnels (%d with the applications' %d)", all-apps, all, apps)
	if all-apps > idleLimit {
		t.Errorf("an idle connection costs %d bytes, want at most %d", all-apps, idleLimit)
	}
}

// rest makes idle connections rest, and wants at least n that do.
func (m *mesh) rest(t *testing.T, n int) {
	t.Helper()
	resting := 0
	for _, node := range m.nodes {
		node.dp.pods.Rest() // what has moved since is idle from now on
		resting += node.dp.pods.Rest()
	}
	if resting < n {
		t.Errorf("%d connections rest, want %d", resting, n)
	}
}

// hold says one byte and waits for the end.
func hold(c *net.TCPConn) {
	_, _ = c.Write([]byte{'.'})
	_, _ = io.Copy(io.Discard, c)
}

// inUse is the memory of heap and stacks after several collections: stacks shrink by half at each.
func inUse() uint64 {
	for range 6 {
		runtime.GC()
		<-time.After(20 * time.Millisecond)
	}
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return s.HeapInuse + s.StackInuse
}

func BenchmarkConnections(b *testing.B) {
	m, client, _, dst := pair(b)
	b.SetParallelism(8)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			c, err := m.net.Connect(b.Context(), client, dst)
			if err != nil {
				b.Error(err)
				return
			}
			greet(b, c)
			c.Close()
		}
	})
}
