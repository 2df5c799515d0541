package inbound

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"syscall"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ambit-mesh/ambit/ztunnel/hbone"
	"github.com/ambit-mesh/ambit/ztunnel/inpod"
	"github.com/ambit-mesh/ambit/ztunnel/shift"
	"github.com/ambit-mesh/ambit/ztunnel/sockets"
	"github.com/ambit-mesh/ambit/ztunnel/sockets/socketstest"
	"github.com/ambit-mesh/ambit/ztunnel/telemetry"
)

// A bug while a connection is relayed ends it: nobody may be left with a socket that nothing serves, or bytes go where policy has
// no say any more.
func TestLost(t *testing.T) {
	peer, ours := socketstest.Pair(t)
	reg := prometheus.NewRegistry()
	pods := inpod.New(inpod.Config{Log: slog.New(slog.DiscardHandler), Metrics: reg})
	if err := pods.Add(&sockets.Pod{UID: "a"}, sockets.Listeners{}); err != nil {
		t.Fatal(err)
	}
	tel, err := telemetry.New(telemetry.Config{Registerer: reg})
	if err != nil {
		t.Fatal(err)
	}
	pod := pods.Served()[0]
	c := &conn{pod: pod, up: ours, relay: new(hbone.Relay), record: tel.Open(new(telemetry.Flow))}
	pod.Track(c)
	shift.Run(c, func() {}) // a relay without its parts
	if !c.record.Closed() {
		t.Error("its record is open")
	}
	if err := ours.SetNoDelay(true); !errors.Is(err, net.ErrClosed) {
		t.Fatalf("our socket is open: %v", err)
	}
	if _, err := io.ReadAll(peer); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the peer reads %v, want a reset", err)
	}
}
