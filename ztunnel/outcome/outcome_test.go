package outcome

import (
	"fmt"
	"io"
	"testing"

	"github.com/ambit-mesh/ambit/ztunnel/hbone"
	"github.com/ambit-mesh/ambit/ztunnel/passthrough"
	"github.com/ambit-mesh/ambit/ztunnel/telemetry"
)

func TestOutcomes(t *testing.T) {
	lost := fmt.Errorf("a stream: %w", hbone.ErrConnLost)
	for name, test := range map[string]struct{ got, want telemetry.Outcome }{
		"tunnel, in order":         {Tunnel(hbone.Result{}, Client, Server), telemetry.Outcome{Close: "eof"}},
		"tunnel, local reset":      {Tunnel(hbone.Result{Err: io.EOF, TCPReset: true}, Client, Server), telemetry.Outcome{Close: "reset by client"}},
		"tunnel, remote reset":     {Tunnel(hbone.Result{Err: io.EOF, StreamReset: true}, Client, Server), telemetry.Outcome{Close: "reset by server"}},
		"tunnel, inbound":          {Tunnel(hbone.Result{Err: io.EOF, TCPReset: true}, Server, Client), telemetry.Outcome{Close: "reset by server"}},
		"tunnel, lost":             {Tunnel(hbone.Result{Err: lost}, Client, Server), telemetry.Outcome{Flag: telemetry.FlagHTTP2, Err: lost, Close: "tunnel lost"}},
		"tunnel, reset, then lost": {Tunnel(hbone.Result{Err: lost, TCPReset: true}, Client, Server), telemetry.Outcome{Close: "reset by client"}},
		"plain, in order":          {Plain(passthrough.Result{}), telemetry.Outcome{Close: "eof"}},
		"plain, by the client":     {Plain(passthrough.Result{Err: io.EOF, ByClient: true}), telemetry.Outcome{Close: "reset by client"}},
		"plain, by the server":     {Plain(passthrough.Result{Err: io.EOF}), telemetry.Outcome{Close: "reset by server"}},
	} {
		if test.got != test.want {
			t.Errorf("%s: got %+v, want %+v", name, test.got, test.want)
		}
	}
}
