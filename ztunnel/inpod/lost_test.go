package inpod

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ambit-mesh/ambit/ztunnel/shift"
	"github.com/ambit-mesh/ambit/ztunnel/sockets"
)

// A handler that panics does not leave its connection open.
func TestLostToABug(t *testing.T) {
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	peer, err := net.DialTCP("tcp", nil, l.Addr().(*net.TCPAddr))
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	ours, err := l.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	ps := New(Config{Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
	p := newPod(ps, cart, sockets.Listeners{})
	p.serve(t.Context(), "plaintext", sockets.Accepted{Conn: ours}, func(context.Context, *Pod, sockets.Accepted) shift.Job { panic("a bug") })
	p.live.idle.Wait()
	if err := ours.SetNoDelay(true); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the socket is open: %v", err)
	}
}
