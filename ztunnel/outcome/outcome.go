// Package outcome answers: what does the record of a connection say of how it ended? inbound and outbound ask, whose
// connections end in the same ways. What policy or route had to say about it they add themselves.
//
// Its functions are pure.
package outcome

import (
	"errors"

	"github.com/ambit-mesh/ambit/ztunnel/hbone"
	"github.com/ambit-mesh/ambit/ztunnel/inpod"
	"github.com/ambit-mesh/ambit/ztunnel/passthrough"
	"github.com/ambit-mesh/ambit/ztunnel/telemetry"
)

// Cut is the error of a connection that was cut while it was set up.
type Cut struct{ Why inpod.Cause }

func (e Cut) Error() string { return "cut while it was set up: " + e.Why.String() }

var errBug = errors.New("lost to a bug of the ztunnel; its log has the stack")

// Bug is that of a connection whose job was over before its record was closed.
func Bug() telemetry.Outcome {
	return telemetry.Outcome{Flag: telemetry.FlagConnect, Err: errBug, Close: "bug"}
}

// The ends of a connection, as records name them.
const (
	Client = "client"
	Server = "server"
)

// Tunnel is that of a connection that was relayed through a tunnel. local, Client or Server, is the application of this node;
// the other is beyond the tunnel.
func Tunnel(r hbone.Result, local, remote string) telemetry.Outcome {
	switch {
	case r.Err == nil:
		return telemetry.Outcome{Close: "eof"}
	case r.TCPReset:
		return telemetry.Outcome{Close: "reset by " + local}
	case errors.Is(r.Err, hbone.ErrConnLost):
		return telemetry.Outcome{Flag: telemetry.FlagHTTP2, Err: r.Err, Close: "tunnel lost"}
	default:
		return telemetry.Outcome{Close: "reset by " + remote}
	}
}

// Plain is that of a connection that was relayed as it is.
func Plain(r passthrough.Result) telemetry.Outcome {
	switch {
	case r.Err == nil:
		return telemetry.Outcome{Close: "eof"}
	case r.ByClient:
		return telemetry.Outcome{Close: "reset by " + Client}
	default:
		return telemetry.Outcome{Close: "reset by " + Server}
	}
}
