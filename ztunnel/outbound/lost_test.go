package outbound

import (
	"net"
	"testing"

	"github.com/ambit-mesh/ambit/ztunnel/hbone"
	"github.com/ambit-mesh/ambit/ztunnel/inpod"
	"github.com/ambit-mesh/ambit/ztunnel/inpod/inpodtest"
	"github.com/ambit-mesh/ambit/ztunnel/telemetry"
)

// A bug while a connection is relayed ends it.
func TestLost(t *testing.T) {
	inpodtest.Lost(t, func(pod *inpod.Pod, ours *net.TCPConn, record *telemetry.Conn) inpodtest.Conn {
		return &conn{pod: pod, app: ours, relay: new(hbone.Relay), record: record}
	})
}
