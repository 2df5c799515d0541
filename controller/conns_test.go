package controller

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc/peer"
)

// given is a listener of connections that are there already.
type given struct {
	net.Listener
	conns chan net.Conn
}

func (g given) Accept() (net.Conn, error) {
	c, ok := <-g.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}

// addressed gives pipes distinct remote addresses.
type addressed struct {
	net.Conn
	port int
}

func (a addressed) RemoteAddr() net.Addr {
	return &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: a.port}
}

func testMetrics() *metrics {
	return newMetrics(prometheus.NewRegistry(), slog.New(slog.DiscardHandler), "test")
}

func TestConns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := given{conns: make(chan net.Conn, 4)}
		m := testMetrics()
		l := newConns(g, 2, m)
		var far []net.Conn
		for i := range 3 {
			near, other := net.Pipe()
			far = append(far, other)
			g.conns <- addressed{near, i}
		}
		close(g.conns)
		first, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.Accept(); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Fatalf("the third was taken: %v", err)
		}
		if _, err := far[2].Write([]byte("x")); err == nil {
			t.Error("the third is open")
		}
		if open, refused := testutil.ToFloat64(m.conns), testutil.ToFloat64(m.refusedConns); open != 2 || refused != 1 {
			t.Errorf("%v open, %v refused", open, refused)
		}

		start := time.Now()
		if _, err := first.Write([]byte("nobody reads")); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != writeWithin {
			t.Errorf("write ended after %s: %v", time.Since(start), err)
		}

		call := peer.NewContext(context.Background(), &peer.Peer{Addr: &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 1}})
		hangUp := l.hangUp(call)
		hangUp()
		if _, err := far[1].Write([]byte("x")); err == nil {
			t.Error("still open after hanging up")
		}
		hangUp() // again: nothing
		l.hangUp(context.Background())()
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
		if open := testutil.ToFloat64(m.conns); open != 0 || len(l.open) != 0 {
			t.Errorf("%v open", open)
		}
	})
}
