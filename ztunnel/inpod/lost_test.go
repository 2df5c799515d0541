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
	"github.com/ambit-mesh/ambit/ztunnel/sockets/socketstest"
)

// A handler that panics does not leave its connection open.
func TestLostToABug(t *testing.T) {
	_, ours := socketstest.Pair(t)
	ps := New(Config{Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
	p := newPod(ps, cart, sockets.Listeners{})
	p.serve(t.Context(), "plaintext", sockets.Accepted{Conn: ours}, func(context.Context, *Pod, sockets.Accepted) shift.Job { panic("a bug") })
	p.live.idle.Wait()
	if err := ours.SetNoDelay(true); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the socket is open: %v", err)
	}
}
