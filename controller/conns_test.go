package controller

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
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
	host byte
	port int
}

func (a addressed) RemoteAddr() net.Addr {
	return &net.TCPAddr{IP: net.IPv4(10, 0, 0, a.host), Port: a.port}
}

func testMetrics() *metrics {
	return newMetrics(prometheus.NewRegistry(), slog.New(slog.DiscardHandler), "test")
}

func TestConns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := given{conns: make(chan net.Conn, 4)}
		m := testMetrics()
		l := newConns(g, connLimits{port: "grpc", most: 2, perAddress: 2}, slog.New(slog.DiscardHandler), m)
		var far []net.Conn
		for i := range 3 {
			near, other := net.Pipe()
			far = append(far, other)
			g.conns <- addressed{near, 1, i}
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
		if open, refused := testutil.ToFloat64(m.conns.WithLabelValues("grpc")), testutil.ToFloat64(m.refusedConns.WithLabelValues("grpc", "too_many")); open != 2 || refused != 1 {
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
		if err := first.Close(); err != nil { // again: counted once
			t.Fatal(err)
		}
		if open := testutil.ToFloat64(m.conns.WithLabelValues("grpc")); open != 0 || len(l.open)+len(l.addresses) != 0 {
			t.Errorf("%v open, by address %v", open, l.addresses)
		}
	})
}

// TestConnsOfOneAddress: one address does not get all connections there are.
func TestConnsOfOneAddress(t *testing.T) {
	g := given{conns: make(chan net.Conn, 4)}
	m, log := testMetrics(), &lockedBuffer{}
	l := newConns(g, connLimits{port: "grpc", most: 10, perAddress: 2}, slog.New(slog.NewTextHandler(log, nil)), m)
	for i, host := range []byte{1, 1, 1, 2} {
		near, far := net.Pipe()
		defer far.Close()
		g.conns <- addressed{near, host, i}
	}
	close(g.conns)
	var taken []string
	for {
		c, err := l.Accept()
		if err != nil {
			break
		}
		defer c.Close()
		taken = append(taken, c.RemoteAddr().String())
	}
	if got := strings.Join(taken, " "); got != "10.0.0.1:0 10.0.0.1:1 10.0.0.2:3" {
		t.Errorf("taken: %s", got)
	}
	if n := testutil.ToFloat64(m.refusedConns.WithLabelValues("grpc", "too_many_of_address")); n != 1 || !strings.Contains(log.String(), "address=10.0.0.1") {
		t.Errorf("%v refused\n%s", n, log)
	}
}

// TestUnknownSender: a connection is closed when more comes in than somebody who is no node proxy has to say.
func TestUnknownSender(t *testing.T) {
	g := given{conns: make(chan net.Conn, 2)}
	m := testMetrics()
	l := newConns(g, connLimits{port: "grpc", most: 10, perAddress: 10, unknown: 10}, slog.New(slog.DiscardHandler), m)
	take := func(port int) (near, far net.Conn) {
		near, far = net.Pipe()
		g.conns <- addressed{near, 1, port}
		near, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		return near, far
	}
	read := func(near, far net.Conn, text string) error {
		go func() { _, _ = far.Write([]byte(text)) }()
		_, err := io.ReadFull(near, make([]byte, len(text)))
		return err
	}
	near, far := take(1)
	if err := read(near, far, "0123456789"); err != nil {
		t.Fatal(err)
	}
	if err := read(near, far, "x"); !errors.Is(err, errUnknown) || len(l.open) != 0 || testutil.ToFloat64(m.refusedConns.WithLabelValues("grpc", "too_much_of_unknown")) != 1 {
		t.Errorf("more than is allowed: %v, %d open", err, len(l.open))
	}
	near, far = take(2)
	defer near.Close()
	l.nodeProxy(peer.NewContext(t.Context(), &peer.Peer{Addr: near.RemoteAddr()}))
	if err := read(near, far, strings.Repeat("x", 100)); err != nil {
		t.Errorf("a node proxy: %v", err)
	}
	l.nodeProxy(t.Context()) // a call without a connection: nothing
}
