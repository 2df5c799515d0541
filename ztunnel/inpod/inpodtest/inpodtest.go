// Package inpodtest answers what every direction must do with a connection that a bug ends. Only tests import it.
package inpodtest

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"syscall"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ambit-mesh/ambit/ztunnel/inpod"
	"github.com/ambit-mesh/ambit/ztunnel/shift"
	"github.com/ambit-mesh/ambit/ztunnel/sockets"
	"github.com/ambit-mesh/ambit/ztunnel/sockets/socketstest"
	"github.com/ambit-mesh/ambit/ztunnel/telemetry"
)

// Conn is a direction's connection that is established.
type Conn interface {
	shift.Job
	inpod.Connection
}

// Lost fails the test unless a connection whose relay panics is ended: its record closed and its socket reset. Nobody may be left
// with a socket that nothing serves, or bytes go where policy has no say any more. broken makes the connection, of the pod, with
// our end of the application's socket and an open record, and a relay that has none of its parts.
func Lost(t *testing.T, broken func(pod *inpod.Pod, ours *net.TCPConn, record *telemetry.Conn) Conn) {
	t.Helper()
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
	pod, record := pods.Served()[0], tel.Open(new(telemetry.Flow))
	c := broken(pod, ours, record)
	pod.Track(c)
	shift.Run(c, func() {})
	if !record.Closed() {
		t.Error("its record is open")
	}
	if err := ours.SetNoDelay(true); !errors.Is(err, net.ErrClosed) {
		t.Fatalf("our socket is open: %v", err)
	}
	if _, err := io.ReadAll(peer); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the peer reads %v, want a reset", err)
	}
}
