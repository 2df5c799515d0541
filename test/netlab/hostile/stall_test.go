package hostile

import (
	"crypto/x509"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/sys/unix"

	"github.com/ambit-mesh/ambit/test/netlab/mesh"
)

// stallLimit is the longest that a peer is waited for: 10 s of silence, then 20 s for the answer to a ping, and some grace.
const stallLimit = 40 * time.Second

// stalls attacks the guarded pod with peers that stop at every point where one can. Each is hung up on in bounded time, and
// counted. They stall at the same time.
func (w *world) stalls(t *testing.T) {
	allowed := w.forge(t, true, func(*x509.Certificate) {}) // whom the guarded pod admits
	flood := listen(t, w.guarded, ":7300")
	go serveAll(flood, func(c net.Conn) { _, _ = io.Copy(c, endless{}) })
	toTCP := func(t *testing.T) net.Conn {
		conn, err := dial(t.Context(), w.stranger, at(w.guarded, 15008), 5*time.Second)
		must(t, err)
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	handshake := map[string]string{"reason": "TLSHandshake"}
	stalls := []struct {
		name, counter string
		labels        map[string]string
		begin         func(t *testing.T) net.Conn // returns what must be closed by the other side
	}{
		{"says nothing", "ambit_ztunnel_connections_rejected", handshake, toTCP},
		{"half a handshake", "ambit_ztunnel_connections_rejected", handshake, func(t *testing.T) net.Conn {
			conn := toTCP(t)
			_, err := io.WriteString(conn, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
			must(t, err)
			return conn
		}},
		{"no preface", "ambit_ztunnel_hbone_settings_timeouts", nil, func(t *testing.T) net.Conn {
			return newPeer(t, w.stranger, w.guarded, allowed).tls.NetConn()
		}},
		{"half a CONNECT", "ambit_ztunnel_hbone_ping_timeouts", nil, func(t *testing.T) net.Conn {
			p := newPeer(t, w.stranger, w.guarded, allowed).begin(t)
			must(t, p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.fields(":method", "CONNECT")}))
			return p.tls.NetConn()
		}},
		{"mid-stream", "ambit_ztunnel_hbone_ping_timeouts", nil, func(t *testing.T) net.Conn {
			p := newPeer(t, w.stranger, w.guarded, allowed).begin(t)
			if got := p.connect(at(w.guarded, echoPort)); got != "status 200" {
				t.Fatal(got)
			}
			must(t, p.WriteData(1, false, []byte("half a li")))
			return p.tls.NetConn()
		}},
		{"reads nothing", "ambit_ztunnel_hbone_ping_timeouts", nil, func(t *testing.T) net.Conn {
			p := newPeer(t, w.stranger, w.guarded, allowed).begin(t)
			must(t, p.WriteWindowUpdate(0, 1<<30))
			id, err := p.open(":method", "CONNECT", ":authority", at(w.guarded, 7300))
			must(t, err)
			must(t, p.WriteWindowUpdate(id, 1<<30))
			return p.tls.NetConn()
		}},
	}
	before := map[string]float64{}
	for _, s := range stalls {
		before[s.counter] = w.metric(t, "n2", s.counter, s.labels)
	}
	mark := w.mark(t, mesh.ZtunnelName("n2"))
	want := map[string]float64{}
	var all sync.WaitGroup
	for _, s := range stalls {
		want[s.counter]++
		conn := s.begin(t)
		all.Go(func() {
			begin := time.Now()
			if !ended(conn, stallLimit) {
				t.Errorf("%s: still open after %s", s.name, stallLimit)
			}
			t.Logf("%s: hung up on after %s", s.name, time.Since(begin).Round(time.Second))
		})
	}
	all.Wait()
	for _, s := range stalls {
		if got := w.metric(t, "n2", s.counter, s.labels) - before[s.counter]; got < want[s.counter] {
			t.Errorf("%s rose by %.0f, want %.0f", s.counter, got, want[s.counter])
		}
	}
	w.logged(t, mesh.ZtunnelName("n2"), mark, "TLSHandshake", "i/o timeout")
}

// ended waits until the other side has closed or reset a connection, reading what comes (but not fast: the peer is stalled).
func ended(c net.Conn, limit time.Duration) bool {
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		return false
	}
	// Not by reading: a peer that reads would not be stalled.
	deadline := time.Now().Add(limit)
	gone := false
	_ = raw.Control(func(fd uintptr) {
		for !gone && time.Now().Before(deadline) {
			fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
			_, _ = unix.Poll(fds, int(time.Until(deadline).Milliseconds()))
			gone = fds[0].Revents&(unix.POLLRDHUP|unix.POLLHUP|unix.POLLERR) != 0
		}
	})
	return gone
}
