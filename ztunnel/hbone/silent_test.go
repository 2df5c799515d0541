package hbone

import (
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"testing/synctest"
)

// TestSilentPeerIsReset: what a peer does not read must not stay in the kernel behind a FIN once it is given up.
func TestSilentPeerIsReset(t *testing.T) {
	for name, c := range map[string]struct {
		cause error
		want  error
	}{
		"silent":        {timeoutError("ping"), syscall.ECONNRESET},
		"closed by us":  {ErrClosed, nil},
		"broke a frame": {errPreface, nil}, // its GOAWAY must arrive
	} {
		t.Run(name, func(t *testing.T) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			peer, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer peer.Close()
			nc, err := ln.Accept()
			if err != nil {
				t.Fatal(err)
			}
			NewServerConn(nc, Config{}, handler(refuse)).c.fail(c.cause)
			if _, err := io.ReadAll(peer); !errors.Is(err, c.want) {
				t.Errorf("the peer sees %v, want %v", err, c.want)
			}
		})
	}
}

// TestRequestsTheFramerRefusesAreCounted: some malformed requests never reach the head parser.
func TestRequestsTheFramerRefusesAreCounted(t *testing.T) {
	var m Metrics
	againstServer(t, Config{Metrics: &m}, refuse, func(p *peer, _ func() error) {
		p.headers(1, false, ":method", "CONNECT", ":authority", "a:1", ":authority", "b:1")
		synctest.Wait()
		if m.StreamsRejected.Load() != 1 || m.StreamsOpened.Load() != 0 {
			t.Errorf("%d requests rejected, %d opened", m.StreamsRejected.Load(), m.StreamsOpened.Load())
		}
	})
}
